"""Where a cluster is, who asks, and what is told when that is wrong."""

import base64
import json
import ssl
import sys
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from eparch.core.errors import InfrastructureError
from eparch.testing.kubernetes import FakeCluster
from eparch.workers import kubernetes_access
from eparch.workers.kubernetes_access import find_access
from eparch.workers.kubernetes_api import Api, asked_for
from eparch.workers.kubernetes_faults import Denied, explain_status
from eparch.workers.kubernetes_jobs import ClusterConfig


def config(server="http://127.0.0.1:1", user=None, **cluster):
    return {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "team"}}],
        "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "u", "user": user or {}}],
    }


def access(tmp_path, content, name="config"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return find_access(None, {"KUBECONFIG": str(path)})


def test_a_kubectl_configuration_says_where_and_who(tmp_path):
    found = access(tmp_path, config("https://[::1]:6443/prefix/", {"token": "t"}))
    assert (found.url, found.address, found.prefix) == ("https://[::1]:6443/prefix", ("::1", 6443), "/prefix")
    assert found.namespace == "team"
    assert found.headers() == {"Authorization": "Bearer t"}
    basic = access(tmp_path, config(user={"username": "me", "password": "pw"}))
    assert basic.headers() == {"Authorization": f"Basic {base64.b64encode(b'me:pw').decode()}"}
    assert access(tmp_path, config()).headers() == {}


def test_of_several_files_the_first_that_has_a_name_counts(tmp_path):
    whole = config("http://first:1")
    (tmp_path / "one").write_text(json.dumps({"contexts": [], "clusters": whole["clusters"]}))
    (tmp_path / "two").write_text(json.dumps(config("http://second:1", {"token": "t"})))
    found = find_access(None, {"KUBECONFIG": f"{tmp_path / 'one'}:{tmp_path / 'no'}:{tmp_path / 'two'}"})
    assert found.url == "http://first:1"
    assert found.headers() == {"Authorization": "Bearer t"}


def test_a_block_counts_for_more_than_the_pod_and_the_pod_for_more_than_a_file(tmp_path, monkeypatch):
    path = tmp_path / "config"
    path.write_text(json.dumps(config("http://file:1")))
    monkeypatch.setattr(kubernetes_access, "POD_FOLDER", tmp_path)
    environ = {
        "KUBECONFIG": str(path), "KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443",
    }  # fmt: skip
    assert find_access(None, environ).url == "http://file:1", "a pod without an account"
    (tmp_path / "token").write_text("first\n")
    (tmp_path / "namespace").write_text("own")
    inside = find_access(None, environ)
    assert (inside.url, inside.namespace) == ("https://10.0.0.1:443", "own")
    assert inside.headers() == {"Authorization": "Bearer first"}
    (tmp_path / "token").write_text("renewed")
    assert inside.headers() == {"Authorization": "Bearer first"}
    inside.forget()
    assert inside.headers() == {"Authorization": "Bearer renewed"}
    text = json.dumps(config("http://block:1"))
    assert find_access(ClusterConfig(config=text, context_name="here"), environ).url == "http://block:1"


def test_a_plugin_is_asked_for_credentials_when_they_end(tmp_path):
    calls = tmp_path / "calls"
    end = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    script = (
        "import json, os, sys\n"
        f"with open({str(calls)!r}, 'a') as file: file.write('x')\n"
        "info = json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n"
        f"token = open({str(calls)!r}).read() + os.environ['WHO'] + info['spec']['cluster']['server'][:4]\n"
        f"print(json.dumps({{'status': {{'token': token, 'expirationTimestamp': {end!r}}}}}))\n"
    )
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1", "command": sys.executable, "args": ["-c", script],
        "env": [{"name": "WHO", "value": "me"}], "provideClusterInfo": True,
    }  # fmt: skip
    found = access(tmp_path, config(user={"exec": plugin}))
    assert found.headers() == found.headers() == {"Authorization": "Bearer xmehttp"}
    found.forget()
    assert found.headers() == {"Authorization": "Bearer xxmehttp"}


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ([sys.executable, "-c", "import sys; sys.exit('no login')"], "exit code 1: no login"),
        ([sys.executable, "-c", "print('hello')"], "printed no ExecCredential"),
        (["no-such-plugin"], "'no-such-plugin': No such file"),
    ],
)
def test_a_plugin_that_fails_says_so_and_how_to_get_it(tmp_path, command, told):
    plugin = {"command": command[0], "args": command[1:], "installHint": "install the plugin"}
    with pytest.raises(InfrastructureError) as caught:
        access(tmp_path, config(user={"exec": plugin})).headers()
    assert told in caught.value.why
    assert caught.value.fix == "install the plugin"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("a: [", "it is not YAML"),
        ("- a", "no kubectl configuration"),
        ({}, "no 'current-context'"),
        ({"current-context": "x"}, "it has no context 'x'"),
        ({**config(), "clusters": []}, "it has no cluster 'c'"),
        ({**config(), "users": [{"name": "v", "user": {}}]}, "it has no user 'u'"),
        (config("ftp://x"), "no http or https URL"),
        (config(user={"token": 3}), "does not fit"),
        (config(user={"auth-provider": {"name": "gcp"}}), "auth-provider: gcp"),
        (
            config("https://x", user={"client-certificate-data": "%%%"}),
            "'client-certificate-data' is not base64",
        ),
        (
            config("https://x", **{"certificate-authority": "no.crt"}),
            "'certificate-authority' cannot be read",
        ),
    ],
)
def test_a_configuration_that_is_wrong_says_where(tmp_path, content, told):
    with pytest.raises(InfrastructureError) as caught:
        access(tmp_path, content).context()
    assert told in caught.value.why
    assert str(tmp_path / "config") in caught.value.why


def test_no_cluster_at_all_says_what_to_set(tmp_path):
    with pytest.raises(InfrastructureError, match="There is no cluster") as caught:
        find_access(None, {"KUBECONFIG": str(tmp_path / "none")})
    assert "KUBECONFIG" in caught.value.fix


def test_a_token_that_was_renewed_is_used_once_the_old_one_is_refused(tmp_path):
    with FakeCluster(tmp_path) as cluster:
        token = tmp_path / "token"
        token.write_text("old")
        api = Api(access(tmp_path, config(cluster.url, {"tokenFile": str(token)})))
        with pytest.raises(Denied, match="does not know who asks"):
            api.send(asked_for("list", "jobs", "default"))
        token.write_text(cluster.token)
        assert api.send(asked_for("list", "jobs", "default"))["items"] == []


@pytest.fixture
def authority(tmp_path):
    """A server with a certificate of its own for localhost, and its authority."""
    import subprocess

    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:cluster.example", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            certificate = self.connection.getpeercert(binary_form=True)
            body = json.dumps({"items": [], "shown": certificate is not None}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    context.load_verify_locations(tmp_path / "cert.pem")
    context.verify_mode = ssl.CERT_OPTIONAL
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"https://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_tls_trusts_the_authority_and_shows_the_certificate(tmp_path, authority):
    asked = asked_for("list", "jobs", "default")
    with pytest.raises(InfrastructureError, match="cannot be reached") as caught:
        Api(access(tmp_path, config(authority))).send(asked)
    assert "not trusted" in caught.value.why
    data = {
        name: base64.b64encode((tmp_path / f"{name}.pem").read_bytes()).decode() for name in ("cert", "key")
    }
    trusted = {"certificate-authority-data": data["cert"], "tls-server-name": "cluster.example"}
    assert Api(access(tmp_path, config(authority, **trusted))).send(asked)["shown"] is False
    user = {"client-certificate-data": data["cert"], "client-key": "key.pem"}
    assert Api(access(tmp_path, config(authority, user, **trusted))).send(asked)["shown"] is True
    insecure = config(authority, **{"insecure-skip-tls-verify": True})
    assert Api(access(tmp_path, insecure)).send(asked)["items"] == []


@pytest.mark.parametrize(
    ("code", "message", "told"),
    [
        (
            403,
            'jobs.batch "x" is forbidden: exceeded quota: q, requested: count/jobs=1',
            "does not admit the Job",
        ),
        (403, 'admission webhook "w" denied the request: no label team', "does not admit the Job"),
        (
            403,
            "unable to create new content in namespace n because it is being terminated",
            "is being deleted",
        ),
        (429, "too many requests", "cannot answer now"),
        (418, "teapot", "refused to create jobs"),
    ],
)
def test_other_refusals_are_told_too(code, message, told):
    error = explain_status(code, {"message": message}, asked_for("create", "jobs", "n"), "here")
    assert told in error.message
    assert message in error.why or code == 418
