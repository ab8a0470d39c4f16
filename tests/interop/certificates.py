"""Certificates of one run: an authority, a server's for `localhost` and 127.0.0.1, a client's; made with `openssl`."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

DAYS = "2"


@dataclass
class Certificates:
    """The files of one run."""

    folder: Path

    @property
    def ca(self):
        return self.folder / "ca.pem"

    def pair(self, name):
        """The certificate and the key of `server` or `client`."""
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"


def make(folder):
    """Makes an authority and what it signs, in a folder of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Certificates(folder)
    ca_key = folder / "ca.key"
    openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", DAYS,
        "-subj", "/CN=interop authority", "-addext", "basicConstraints=critical,CA:TRUE",
        "-addext", "keyUsage=critical,keyCertSign", "-keyout", ca_key, "-out", made.ca,
    )  # fmt: skip
    for name, usage in [("server", "serverAuth"), ("client", "clientAuth")]:
        certificate, key = made.pair(name)
        request, extensions = folder / f"{name}.csr", folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage={usage}\n")
        openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-subj", f"/CN=interop {name}", "-keyout", key, "-out", request,
        )  # fmt: skip
        openssl(
            "x509", "-req", "-in", request, "-CA", made.ca, "-CAkey", ca_key, "-CAcreateserial", "-days", DAYS,
            "-extfile", extensions, "-out", certificate,
        )  # fmt: skip
    return made


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)
