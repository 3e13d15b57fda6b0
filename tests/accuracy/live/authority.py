"""A local certificate authority, and the certificate that serves all names."""

from __future__ import annotations

import subprocess
from pathlib import Path

_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]


def make_certificates(folder: Path, names: list[str]) -> None:
    """Write ca.pem, and key.pem and certificate.pem for all names, which the authority signs."""
    _openssl(
        "req", "-x509", *_KEY, "-subj", "/CN=authority", "-keyout", f"{folder}/ca-key.pem", "-out", f"{folder}/ca.pem"
    )
    _openssl("req", *_KEY, "-subj", "/CN=sites", "-keyout", f"{folder}/key.pem", "-out", f"{folder}/request.pem")
    (folder / "extensions").write_text("subjectAltName=" + ",".join(f"DNS:{name}" for name in names))
    signed = ["-CA", f"{folder}/ca.pem", "-CAkey", f"{folder}/ca-key.pem", "-CAcreateserial", "-days", "2"]
    signed += ["-extfile", f"{folder}/extensions", "-in", f"{folder}/request.pem", "-out", f"{folder}/certificate.pem"]
    _openssl("x509", "-req", *signed)


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
