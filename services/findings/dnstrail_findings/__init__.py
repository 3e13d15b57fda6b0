"""The worker that receives findings, and writes each of them once to every output."""
