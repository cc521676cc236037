"""AWS Secrets Manager and Google Cloud Secret Manager on one loopback port, for tests.

They share no code with the gateway: signatures are checked with Python's hmac and with openssl.
Called with a folder: `state.json` in it says what is held and how it is answered, `port` is
written when the server listens, `seen` gets a line for each request.
"""

import base64
import hashlib
import hmac
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FOLDER = sys.argv[1]
TOKENS = []


def state():
    with open(os.path.join(FOLDER, "state.json")) as file:
        return json.load(file)


def seen(line):
    with open(os.path.join(FOLDER, "seen"), "a") as file:
        file.write(line + "\n")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def date_time_string(self, timestamp=None):
        # The clock of these servers may be wrong.
        return super().date_time_string(time.time() + state().get("clock", 0))

    def answer(self, status, body, kind="application/json"):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/token":
            self.google_token(body)
        elif self.path == "/":
            self.amazon(body)
        else:
            self.answer(404, {})

    def do_GET(self):
        self.google_secret()

    # AWS

    def amazon(self, body):
        now = state()
        aws = now["aws"]

        def refuse(code, message):
            seen(f"aws {code}")
            self.answer(400, {"__type": code, "Message": message}, "application/x-amz-json-1.1")

        if now.get("fail"):
            return refuse(now["fail"], "as the test has it")
        date = self.headers["X-Amz-Date"]
        words = self.headers["Authorization"].split(" ", 1)
        parts = dict(part.strip().split("=", 1) for part in words[1].split(","))
        names = parts["SignedHeaders"].split(";")
        for needed in ["host", "x-amz-date"] + ["x-amz-security-token"] * ("token" in aws):
            if needed not in names:
                return refuse("IncompleteSignatureException", f"{needed} is not signed")
        lines = [f"{name}:{self.headers[name].strip()}" for name in names]
        digest = hashlib.sha256(body).hexdigest()
        canonical = "\n".join(["POST", "/", ""] + lines + ["", ";".join(names), digest])
        scope = [date[:8], aws["region"], "secretsmanager", "aws4_request"]
        if parts["Credential"] != "/".join([aws["key_id"]] + scope):
            return refuse("UnrecognizedClientException", "The security token is invalid.")
        text = "\n".join(
            [words[0], date, "/".join(scope), hashlib.sha256(canonical.encode()).hexdigest()]
        )
        key = ("AWS4" + aws["key"]).encode()
        for part in scope:
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        right = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(right, parts["Signature"]):
            # As AWS does it: all that was signed is repeated.
            return refuse(
                "InvalidSignatureException",
                f"The signature does not match.\n\nThe Canonical String should be\n{canonical}",
            )
        if aws.get("token") != self.headers["X-Amz-Security-Token"]:
            return refuse("UnrecognizedClientException", "The security token is invalid.")
        signed = time.mktime(time.strptime(date, "%Y%m%dT%H%M%SZ")) - time.timezone
        if abs(signed - time.time() - now.get("clock", 0)) > 300:
            return refuse("InvalidSignatureException", f"Signature expired: {date} is too early")
        if self.headers["X-Amz-Target"] != "secretsmanager.GetSecretValue":
            return refuse("UnknownOperationException", "")
        asked = json.loads(body)
        if asked.get("VersionStage") != "AWSCURRENT":
            return refuse("InvalidParameterException", "VersionStage")
        name = asked["SecretId"]
        if name in now.get("binary", []):
            seen(f"aws {name}")
            return self.answer(200, {"Name": name, "SecretBinary": "AAEC"})
        if name not in now["secrets"]:
            return refuse(
                "ResourceNotFoundException", "Secrets Manager can't find the specified secret."
            )
        seen(f"aws {name}")
        self.answer(200, {"Name": name, "SecretString": now["secrets"][name]})

    # Google

    def google_token(self, body):
        now = state()
        gcp = now["gcp"]

        def refuse(reason):
            seen(f"gcp token refused: {reason}")
            self.answer(400, {"error": "invalid_grant", "error_description": reason})

        form = dict(urllib.parse.parse_qsl(body.decode()))
        if form.get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer":
            return refuse("grant_type")
        head, claims, signature = form["assertion"].split(".")

        def open_part(part):
            return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))

        if json.loads(open_part(head)) != {"alg": "RS256", "typ": "JWT"}:
            return refuse("head")
        with tempfile.TemporaryDirectory() as folder:
            for name, data in [("public.pem", gcp["public"].encode()), ("sig", open_part(signature))]:
                with open(os.path.join(folder, name), "wb") as file:
                    file.write(data)
            verified = subprocess.run(
                ["openssl", "dgst", "-sha256", "-verify", os.path.join(folder, "public.pem"),
                 "-signature", os.path.join(folder, "sig")],
                input=f"{head}.{claims}".encode(), capture_output=True)
        if verified.returncode != 0:
            return refuse("Invalid JWT Signature.")
        claims = json.loads(open_part(claims))
        host = self.headers["Host"]
        wanted = {"iss": gcp["email"], "aud": f"http://{host}/token", "scope": gcp["scope"]}
        for name, value in wanted.items():
            if claims.get(name) != value:
                return refuse(f"{name}: {claims.get(name)}")
        clock = time.time() + now.get("clock", 0)
        if not (clock - 300 < claims["iat"] < clock + 300 and claims["exp"] - claims["iat"] <= 3600):
            return refuse("Invalid JWT: check your iat and exp values")
        token = f"{gcp.get('token', 'ya29')}.{len(TOKENS)}"
        TOKENS.append(token)
        seen("gcp token")
        self.answer(
            200,
            {"access_token": token, "token_type": "Bearer", "expires_in": gcp.get("lasts", 3600)},
        )

    def google_secret(self):
        now = state()
        gcp = now["gcp"]
        token = (self.headers["Authorization"] or "").removeprefix("Bearer ")
        start = f"/v1/projects/{gcp['project']}/secrets/"

        def refuse(status, code, message):
            seen(f"gcp {code}")
            self.answer(status, {"error": {"code": status, "message": message, "status": code}})

        if now.get("fail"):
            return refuse(503, now["fail"], f"as the test has it, with {token}")
        if token not in TOKENS[gcp.get("revoked", 0):]:
            return refuse(401, "UNAUTHENTICATED", "Request had invalid credentials.")
        if not self.path.startswith(start) or not self.path.endswith("/versions/latest:access"):
            return refuse(403, "PERMISSION_DENIED", f"Permission denied on {self.path}")
        name = self.path[len(start):-len("/versions/latest:access")]
        if name not in now["secrets"]:
            return refuse(404, "NOT_FOUND", f"Secret [{name}] not found or has no versions.")
        seen(f"gcp {name}")
        data = base64.b64encode(now["secrets"][name].encode()).decode()
        self.answer(200, {"name": self.path, "payload": {"data": data}})


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
with open(os.path.join(FOLDER, "port.new"), "w") as file:
    file.write(str(server.server_port))
os.rename(os.path.join(FOLDER, "port.new"), os.path.join(FOLDER, "port"))
server.serve_forever()
