"""`dnstrail run --enforce`: refuse in the kernel what the allow list does not contain."""
