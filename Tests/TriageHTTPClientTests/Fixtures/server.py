"""An HTTP server on a free port of 127.0.0.1 that behaves as the path says; prints its port and ends with its standard input.

    server.py [DIRECTORY]     with a directory, over TLS: it makes ca.pem there, and a certificate by it for 127.0.0.1

/echo what was sent, as JSON · /status/N · /hang never an answer · /trickle one byte a tenth of a second · /reset a closed connection ·
/half less than promised · /huge/N so many bytes · /headers/N so many bytes of header fields · /garbage no HTTP · /redirect to /echo ·
/count connections so far
"""

import asyncio
import json
import pathlib
import ssl
import subprocess
import sys

connections = 0


def certificate(directory):
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=directory)

    name = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    openssl("req", "-x509", *name, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test authority")
    openssl("req", *name[:-2], "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=test")
    pathlib.Path(directory, "names").write_text("subjectAltName=IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-extfile", "names", "-out", "cert.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{directory}/cert.pem", f"{directory}/key.pem")
    return context


async def answer(reader, writer):
    global connections
    connections += 1
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, path, _ = head[0].split(" ")
            headers = [line.split(": ", 1) if ": " in line else [line.rstrip(":"), ""] for line in head[1:] if line]
            length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
            body = await reader.readexactly(length)
            kind, _, number = path.partition("?")[0].strip("/").partition("/")

            def send(status, content=b"", more=""):
                writer.write(f"HTTP/1.1 {status} Status\r\nContent-Length: {len(content)}\r\n{more}\r\n".encode() + content)

            if kind == "echo":
                told = {"method": method, "path": path, "headers": headers, "body": body.decode("latin-1")}
                send(200, json.dumps(told).encode(), "X-Empty:\r\nETag:  W/\"1\" \r\n")
            elif kind == "status":
                send(int(number))
            elif kind == "count":
                send(200, str(connections).encode())
            elif kind == "hang":
                await reader.read()
                return
            elif kind == "trickle":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                for _ in range(1000):
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(0.1)
            elif kind == "reset":
                return
            elif kind == "half":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
                return
            elif kind == "huge":
                writer.write(f"HTTP/1.1 202 OK\r\nContent-Length: {number}\r\n\r\n".encode())
                for _ in range(int(number) // 65536 + 1):
                    writer.write(b"x" * 65536)
                    await writer.drain()
                return
            elif kind == "headers":
                send(200, b"", "".join(f"X-{index}: {'y' * 1000}\r\n" for index in range(int(number) // 1000)))
            elif kind == "garbage":
                writer.write(b"220 this is no HTTP\r\n")
                return
            elif kind == "redirect":
                send(302, b"", "Location: /echo\r\n")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main():
    context = certificate(sys.argv[1]) if len(sys.argv) > 1 else None
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
