"""Agent commands become worker commands, whatever file they are in (row M9)."""

# ruff: noqa: E501 - a form is seen best in one line

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eparch.migrate.operations import (
    diff,
    encode,
    explain,
    find_commands,
    find_in,
    read_texts,
    rewrite,
    rewrite_all,
)

QUEUES = ["dev-a", "dev-b", "prod", "Agent queue a-b"]

# name -> (file, before, after); the pool of the worker is "k8s".
FORMS: dict[str, tuple[str, str, str]] = {
    "systemd": (
        "agent.service",
        "[Service]\nExecStart=/opt/venv/bin/prefect agent start -q default --hide-welcome\nRestart=always\n",
        "[Service]\nExecStart=/opt/venv/bin/eparch worker start --pool k8s -q default\nRestart=always\n",
    ),
    "systemd variable": (
        "a.tf",
        "content = <<-EOT\n  ExecStart=/usr/local/bin/prefect agent start ${queue}\n  User=x\nEOT\n",
        "content = <<-EOT\n  ExecStart=/usr/local/bin/eparch worker start --pool k8s -q ${queue}\n  User=x\nEOT\n",
    ),
    "dockerfile shell": (
        "Dockerfile",
        "FROM x\nCMD prefect agent start -q a \\\n    -q b --limit 4\nLABEL a=b\n",
        "FROM x\nCMD eparch worker start --pool k8s -q a \\\n    -q b --limit 4\nLABEL a=b\n",
    ),
    "dockerfile exec": (
        "Dockerfile",
        'CMD ["prefect", "agent", "start", "-q", "default"]\r\n',
        'CMD ["eparch", "worker", "start", "--pool", "k8s", "-q", "default"]\r\n',
    ),
    "dockerfile exec of a shell": (
        "Dockerfile",
        'CMD ["sh", "-c", "sleep 5 && prefect agent start -q default"]\n',
        'CMD ["sh", "-c", "sleep 5 && eparch worker start --pool k8s -q default"]\n',
    ),
    "dockerfile entrypoint and cmd": (
        "Dockerfile",
        'ENTRYPOINT ["prefect", "agent", "start"]\nCMD ["-q", "default", "--hide-welcome"]\n',
        'ENTRYPOINT ["eparch", "worker", "start", "--pool", "k8s"]\nCMD ["-q", "default"]\n',
    ),
    "dockerfile an empty half": (
        "Dockerfile",
        'ENTRYPOINT ["prefect", "agent", "start"]\nCMD ["--hide-welcome"]\n',
        'ENTRYPOINT ["eparch", "worker", "start", "--pool", "k8s"]\nCMD []\n',
    ),
    "dockerfile program apart": (
        "Dockerfile",
        'ENTRYPOINT ["prefect"]\nCMD ["agent", "start", "-q", "default"]\n',
        'ENTRYPOINT ["eparch"]\nCMD ["worker", "start", "--pool", "k8s", "-q", "default"]\n',
    ),
    "compose string": (
        "docker-compose.yml",
        "services:\n  a:\n    command: prefect agent start -p old  # the agent\n    image: x\n",
        "services:\n  a:\n    command: eparch worker start -p k8s  # the agent\n    image: x\n",
    ),
    "compose quoted": (
        "docker-compose.yml",
        "    command: \"prefect agent start -q 'my queue'\"\n",
        "    command: \"eparch worker start --pool k8s -q 'my queue'\"\n",
    ),
    "compose folded": (
        "docker-compose.yml",
        "  a:\n    command: >\n      prefect agent start\n      --hide-welcome\n      -q default\n    image: x\n",
        "  a:\n    command: >\n      eparch worker start --pool k8s\n      -q default\n    image: x\n",
    ),
    "compose plain over lines": (
        "docker-compose.yml",
        "  a:\n    command: prefect agent start\n      -q default\n      --hide-welcome\n    image: x\n",
        "  a:\n    command: eparch worker start --pool k8s\n      -q default\n    image: x\n",
    ),
    "compose literal": (
        "docker-compose.yml",
        "    command: |\n      prefect agent start\n      -q default\n",
        "    command: |\n      eparch worker start --pool k8s\n      -q default\n",
    ),
    "compose entrypoint apart": (
        "docker-compose.yml",
        "    entrypoint: prefect\n    command: agent start -q default\n",
        "    entrypoint: eparch\n    command: worker start --pool k8s -q default\n",
    ),
    "flow list": (
        "values.yaml",
        "command: [prefect, agent, start, -q, default]\n",
        "command: [eparch, worker, start, --pool, k8s, -q, default]\n",
    ),
    "block list": (
        "deploy.yaml",
        "command:\n  - prefect\n  - agent\n  - start\n  - -q\n  - default  # mine\nimage: x\n",
        "command:\n  - eparch\n  - worker\n  - start\n  - --pool\n  - k8s\n  - -q\n  - default  # mine\nimage: x\n",
    ),
    "block list in quotes": (
        "deploy.yaml",
        'command:\r\n- "/bin/prefect"\r\n- "agent"\r\n- "start"\r\n- "--pool=old"\r\nimage: x\r\n',
        'command:\r\n- "/bin/eparch"\r\n- "worker"\r\n- "start"\r\n- "--pool=k8s"\r\nimage: x\r\n',
    ),
    "kubernetes args": (
        "deploy.yaml",
        'command: ["prefect"]\nargs: ["agent", "start", "--match", "dev-"]\n',
        'command: ["eparch"]\nargs: ["worker", "start", "--pool", "k8s", "-q", "dev-a", "-q", "dev-b"]\n',
    ),
    "kubernetes args in lines": (
        "deploy.yaml",
        "command:\n  - prefect\nargs:\n  - agent\n  - start\n  - -p\n  - old\n",
        "command:\n  - eparch\nargs:\n  - worker\n  - start\n  - -p\n  - k8s\n",
    ),
    "kubernetes options apart": (
        "deploy.yaml",
        "command:\n  - prefect\n  - agent\n  - start\nargs:\n  - -q\n  - default\n",
        "command:\n  - eparch\n  - worker\n  - start\n  - --pool\n  - k8s\nargs:\n  - -q\n  - default\n",
    ),
    "helm template": (
        "values.yaml",
        'args: ["prefect", "agent", "start", "--work-queue", "{{ .Values.queue }}"]\n',
        'args: ["eparch", "worker", "start", "--pool", "k8s", "--work-queue", "{{ .Values.queue }}"]\n',
    ),
    "terraform list": (
        "main.tf",
        'command = [\n  "prefect",\n  "agent",\n  "start",\n  "-q",\n  var.queue,\n]\n',
        'command = [\n  "eparch",\n  "worker",\n  "start",\n  "--pool",\n  "k8s",\n  "-q",\n  var.queue,\n]\n',
    ),
    "terraform in a string": (
        "main.tf",
        'x = "[{\\"command\\": [\\"prefect\\", \\"agent\\", \\"start\\", \\"-q\\", \\"a\\"]}]"\n',
        'x = "[{\\"command\\": [\\"eparch\\", \\"worker\\", \\"start\\", \\"--pool\\", \\"k8s\\", \\"-q\\", \\"a\\"]}]"\n',
    ),
    "terraform jsonencode": (
        "main.tf",
        'c = jsonencode([{ command = ["prefect", "agent", "start", "-q", "a"], cpu = 1 }])\n',
        'c = jsonencode([{ command = ["eparch", "worker", "start", "--pool", "k8s", "-q", "a"], cpu = 1 }])\n',
    ),
    "shell in the background": (
        "run.sh",
        "nohup prefect agent start -q default > agent.log 2>&1 &\n",
        "nohup eparch worker start --pool k8s -q default > agent.log 2>&1 &\n",
    ),
    "tmux": (
        "run.sh",
        "tmux new-session -d -s agent 'prefect agent start -q \"a b\"'\n",
        "tmux new-session -d -s agent 'eparch worker start --pool k8s -q \"a b\"'\n",
    ),
    "a module": (
        "run.sh",
        'exec python -m prefect agent start -t a --tag b; echo "done"\n',
        'exec python -m eparch worker start --pool k8s -q "Agent queue a-b"; echo "done"\n',
    ),
    "a profile": (
        "run.sh",
        "ddtrace-run prefect --profile prod agent start --run-once --prefetch-seconds 30 -l 5 -qa -pold\n",
        "ddtrace-run eparch --profile prod worker start --run-once --prefetch-seconds 30 -l 5 -qa -pk8s\n",
    ),
    "an address": (
        "run.sh",
        "prefect agent start default --api=$API\n",
        "eparch worker start --pool k8s -q default --api-url=$API\n",
    ),
    "nested quotes": (
        "x.json",
        '{"cmd": "bash -c \\"prefect agent start -q x\\" && true"}\n',
        '{"cmd": "bash -c \\"eparch worker start --pool k8s -q x\\" && true"}\n',
    ),
    "actions": (
        ".github/workflows/ci.yml",
        "    - run: |\n        pip install x\n        prefect agent start -q ${{ env.QUEUE }} --run-once\n        echo done\n",
        "    - run: |\n        pip install x\n        eparch worker start --pool k8s -q ${{ env.QUEUE }} --run-once\n        echo done\n",
    ),
    "gitlab": (
        ".gitlab-ci.yml",
        "script:\n  - prefect agent start -q default --run-once\n  - echo done\n",
        "script:\n  - eparch worker start --pool k8s -q default --run-once\n  - echo done\n",
    ),
    "supervisord": (
        "supervisord.conf",
        "command=prefect agent start -q default ; the agent\nautostart=true",
        "command=eparch worker start --pool k8s -q default ; the agent\nautostart=true",
    ),
    "procfile": ("Procfile", "worker: prefect agent start default\n", "worker: eparch worker start --pool k8s -q default\n"),
    "makefile": (
        "Makefile",
        "agent:\n\t@prefect agent start -q $(QUEUE)\n",
        "agent:\n\t@eparch worker start --pool k8s -q $(QUEUE)\n",
    ),
    "batch": (
        "run.bat",
        "start /B C:\\env\\Scripts\\prefect.exe agent start ^\r\n  -q %QUEUE%\r\npause\r\n",
        "start /B C:\\env\\Scripts\\eparch.exe worker start --pool k8s ^\r\n  -q %QUEUE%\r\npause\r\n",
    ),
    "batch in quotes": (
        "run.bat",
        '"C:\\Program Files\\p\\prefect.exe" agent start -q a\r\n',
        '"C:\\Program Files\\p\\eparch.exe" worker start --pool k8s -q a\r\n',
    ),
    "powershell": (
        "run.ps1",
        'Start-Process prefect -ArgumentList "agent","start","-q","default"\n',
        'Start-Process eparch -ArgumentList "worker","start","--pool","k8s","-q","default"\n',
    ),
    "powershell string": (
        "run.ps1",
        'Start-Process -FilePath prefect -ArgumentList "agent start -q default" -NoNewWindow\n',
        'Start-Process -FilePath eparch -ArgumentList "worker start --pool k8s -q default" -NoNewWindow\n',
    ),
    "a windows service": (
        "service.xml",
        "<executable>prefect</executable>\n<arguments>agent start -q default</arguments>\n",
        "<executable>eparch</executable>\n<arguments>worker start --pool k8s -q default</arguments>\n",
    ),
    "python list": (
        "run.py",
        'subprocess.run(["prefect", "agent", "start", "-q", queue, "-p", "old"], check=True)\n',
        'subprocess.run(["eparch", "worker", "start", "-q", queue, "-p", "k8s"], check=True)\n',
    ),
    "python list over lines": (
        "run.py",
        "Popen(\n    [\n        sys.executable, '-m', 'prefect',\n        'agent', 'start',  # go\n        '--hide-welcome',\n        f'{q}',\n    ]\n)\n",
        "Popen(\n    [\n        sys.executable, '-m', 'eparch',\n        'worker', 'start', '--pool', 'k8s',  # go\n        '-q', f'{q}',\n    ]\n)\n",
    ),
    "python options in a text": (
        "run.py",
        'run(["prefect", "agent", "start", f"--work-queue={q}"])\n',
        'run(["eparch", "worker", "start", "--pool", "k8s", f"--work-queue={q}"])\n',
    ),
    "python string": (
        "run.py",
        "os.system('prefect agent start -q default')\n",
        "os.system('eparch worker start --pool k8s -q default')\n",
    ),
    "toml": ("x.toml", 'agent = "prefect agent start -q a"\n', 'agent = "eparch worker start --pool k8s -q a"\n'),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_m9_every_form_becomes_a_worker_in_place(form: str) -> None:
    path, before, after = FORMS[form]
    done = rewrite_all(before, path, lambda old: "k8s", lambda pool: QUEUES)
    assert done.text == after
    assert [note for note in done.notes if "left" in note] == []
    assert rewrite_all(done.text, path, lambda old: "k8s", lambda pool: QUEUES).text == done.text
    assert find_in(done.text, path) == []


# file, text, what the note says; the text stays.
LEFT = [
    ("a.sh", "prefect agent start --match dev-\n", "workers have no --match"),
    ("a.sh", "prefect agent start -t gpu\n", "workers do not choose runs by --tag"),
    ("a.sh", 'prefect agent start -r "dev-.*"\n', "agents have no option -r"),
    ("a.sh", "prefect agent docker start -l label -k KEY\n", "an agent of Prefect 1"),
    ("a.sh", "# prefect agent start -q a\n", "this is a comment"),
    ("a.bat", "REM prefect agent start -q a\r\n", "this is a comment"),
    ("README.md", "    prefect agent start -q a\n", "this is a document"),
    ("a.sh", "prefect agent start -q\n", "-q has no value"),
    ("a.sh", "echo prefect agent start it all now\n", "agents take one argument"),
    ("a.sh", "prefect agent start -q a --match b\n", "not two of them"),
    ("a.py", 'run(["prefect", "agent", "start", *queues])\n', "code adds more options"),
    ("a.py", 'run(["prefect", "agent", "start"] + queues)\n', "code adds more options"),
    ("a.yaml", "args: [agent, start, -q, a]\n", "the program is named elsewhere"),
    ("a.py", '["prefect", "agent", "local", "start"]\n', "an agent of Prefect 1"),
]


@pytest.mark.parametrize(("path", "text", "said"), LEFT)
def test_m9_what_has_no_equivalent_is_left_and_said_with_its_place(path: str, text: str, said: str) -> None:
    text = "\n" + text
    done = rewrite_all(text, path, lambda old: "k8s")
    assert done.text == text
    [note] = done.notes
    assert note.startswith(f"{path}:2: left as it is: ")
    assert said in note


def test_m9_prefixes_are_resolved_to_queues_that_are_known() -> None:
    text = "prefect agent start -m dev- --match prod --run-once\n"
    [found] = find_in(text, "a.sh")
    assert explain(found, "k8s") != ""
    assert rewrite(text, found, "k8s") == text
    assert rewrite(text, found, "k8s", QUEUES) == (
        "eparch worker start --pool k8s -q dev-a -q dev-b -q prod --run-once\n"
    )
    assert "no queue of the pool begins with 'x'" in explain(
        find_in("prefect agent start -m x", "a.sh")[0], "k8s", QUEUES
    )
    notes = rewrite_all(text, "a.sh", lambda old: "k8s", lambda pool: QUEUES).notes
    assert "a queue that is made later" in notes[0]


def test_m9_a_pool_in_a_variable_stays_and_is_said() -> None:
    done = rewrite_all("prefect agent start --pool ${POOL}\n", "a.sh", lambda old: "k8s")
    assert done.text == "eparch worker start --pool ${POOL}\n"
    assert done.notes == ("a.sh:1: ${POOL} has to name the pool 'k8s' where it is set",)


def test_m9_the_pool_is_chosen_by_what_the_agent_served() -> None:
    text = "prefect agent start -q a\nprefect agent start -p old -q b\n"
    pools = {"default-agent-pool": "one", "old": "two words"}
    done = rewrite_all(text, "a.sh", pools.__getitem__)
    assert done.text == 'eparch worker start --pool one -q a\neparch worker start -p "two words" -q b\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("CMD prefect agent start -q a", 'CMD eparch worker start --pool "a b" -q a'),
        ("x: 'prefect agent start -q a'", "x: 'eparch worker start --pool \"a b\" -q a'"),
        ('x: "prefect agent start -q a"', "x: \"eparch worker start --pool 'a b' -q a\""),
        ('["prefect", "agent", "start"]', '["eparch", "worker", "start", "--pool", "a b"]'),
        ("c: [prefect, agent, start]", 'c: [eparch, worker, start, --pool, "a b"]'),
    ],
)
def test_m9_a_name_is_quoted_as_its_place_needs(text: str, said: str) -> None:
    assert rewrite_all(text, "Dockerfile", lambda old: "a b").text == said


def test_m9_a_name_that_cannot_be_quoted_leaves_the_command() -> None:
    text = "prefect agent start -q a"
    done = rewrite_all(text, "a.sh", lambda old: 'a"b')
    assert done.text == text
    assert "cannot be written here" in done.notes[0]


def test_m9_a_text_that_has_changed_since_stays() -> None:
    text = "prefect agent start -q a\n"
    [found] = find_in(text, "a.sh")
    assert rewrite("x" + text, found, "k8s") == "x" + text


def test_m9_a_folder_is_searched_without_what_is_not_its_own(tmp_path: Path) -> None:
    line = "prefect agent start -q a\n"
    for name in ("b.sh", "a/c.sh", ".git/hook", "env/bin/x.sh", "node_modules/x.sh"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(line)
    (tmp_path / "env" / "pyvenv.cfg").write_text("")
    (tmp_path / "binary").write_bytes(b"\0" + line.encode())
    (tmp_path / "large").write_text(line + "x" * 1_000_000)
    (tmp_path / "link.sh").symlink_to(tmp_path / "b.sh")
    (tmp_path / "latin").write_bytes(b"# caf\xe9\r\n" + line.encode())
    assert [found.place for found in find_commands(tmp_path)] == ["b.sh:1", "latin:2", "a/c.sh:1"]
    texts = dict(read_texts(tmp_path))
    done = rewrite_all(texts["latin"], "latin", lambda old: "k8s")
    assert encode(done.text) == b"# caf\xe9\r\neparch worker start --pool k8s -q a\n"


def test_m9_a_change_is_shown_as_a_diff() -> None:
    before = "a\nprefect agent start -q a"
    after = rewrite_all(before, "run.sh", lambda old: "k8s").text
    assert diff("run.sh", before, after) == (
        "--- a/run.sh\n+++ b/run.sh\n@@ -1,2 +1,2 @@\n a\n"
        "-prefect agent start -q a\n\\ No newline at end of file\n"
        "+eparch worker start --pool k8s -q a\n\\ No newline at end of file\n"
    )
    assert diff("run.sh", after, after) == ""


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from([one[1] for one in FORMS.values()]),
            st.text("prefectagnstw -\"'[]{}(),.\\\n\r\t#$%&;|<>=:^`é", max_size=40),
        ),
        max_size=5,
    ),
    st.sampled_from(["a.sh", "a.yaml", "a.py", "a.md"]),
)
def test_m9_twice_is_once_and_only_commands_change(pieces: list[str], path: str) -> None:
    text = "\n".join(pieces)
    found = find_in(text, path)
    once = rewrite_all(text, path, lambda old: "k8s", lambda pool: QUEUES).text
    assert rewrite_all(once, path, lambda old: "k8s", lambda pool: QUEUES).text == once
    outside, at, left = "", 0, once
    for one in found:
        outside = text[at : one.start]
        assert left.startswith(outside) or outside in left
        left = left[left.index(outside) + len(outside) :]
        at = one.end
    assert left.endswith(text[at:])


@pytest.mark.parametrize(
    "text",
    ["prefect agent start " * 4_000, "[" * 100_000 + '"agent", "start"', "prefect \\\n" * 50_000,
     "- agent\n- start\n" * 20_000, '"agent", "start", ' * 8_000, "prefect -a " * 30_000],
    ids=["shell", "brackets", "lines", "block", "list", "options"],
)  # fmt: skip
def test_m9_hostile_text_is_read_to_its_end(text: str) -> None:
    assert isinstance(find_in(text, "a.yaml"), list)
