"""HEALTHCHECK of the image: exit 0 when the event loop of the controller, or of an agent, in this container answers.

Any answer will do, also one to a port that wants TLS or a client's certificate: only a process that is gone or hangs gives
none. The port is that of PROMRING_WEB_LISTEN_ADDRESS.
"""

import os
import socket
import ssl
import sys

TIMEOUT_S = 4.0
ASK = b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def main() -> int:
    host, _, port = os.environ.get("PROMRING_WEB_LISTEN_ADDRESS", ":9600").rpartition(":")
    host = host.strip("[]")
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 it is compared, not bound
    return 0 if answers(host, int(port), tls=False) or answers(host, int(port), tls=True) else 1


def answers(host: str, port: int, *, tls: bool) -> bool:
    """Whether anything comes back."""
    try:
        with socket.create_connection((host, port), TIMEOUT_S) as connection:
            if tls:
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                with context.wrap_socket(connection):  # the event loop makes the handshake: that is an answer
                    return True
            connection.sendall(ASK)
            return bool(connection.recv(1))
    except ssl.SSLError:
        return True  # it has answered: it wants a certificate
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main())
