"""Scenarios of artifacts that no run takes part in, in the form of `scenarios.py`; artifact_oracle.json is what
wandb 0.31.0 did with them: digests, entries and manifests byte for byte, and the whole texts of what is raised.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import os
import pathlib

from registry import Registry

SCENARIOS = Registry()
scenario = SCENARIOS("artifacts")


def why(fn, *a, **k):
    """Return what is returned, or the class and the whole text of what is raised."""
    try:
        return ["ok", fn(*a, **k)]
    except Exception as error:
        return [type(error).__name__, str(error).replace(os.getcwd(), "<cwd>")]


def put(path, content="x"):
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())


def told(artifact):
    """Return all that is known of what an artifact holds."""
    manifest = artifact.manifest.to_manifest_json()
    return {
        "digests": [artifact.digest, artifact.manifest.digest()],
        "sizes": [artifact.size, artifact.manifest.size(), len(artifact.manifest)],
        "policy": [manifest["version"], manifest["storagePolicy"], manifest["storagePolicyConfig"]],
        "contents": dict(sorted(manifest["contents"].items())),
    }


def entry(found):
    """Return an entry as it tells itself, without where its copy lies."""
    own = {key: value for key, value in found.to_json().items() if key != "local_path"}
    return [str(found.path), found.digest, found.size, found.ref, dict(found.extra), own]


@scenario
def artifact_contents(wb):
    """Files, folders, new files, tables: names, digests, manifests, in whatever order they came."""
    out = {"empty": told(wb.Artifact("a", "t"))}
    for name in ("d/a", "d/s/b", "d/s/é", "d/.hidden", "d/s/t/c"):
        put(name, name)
    put("binary", bytes(range(256)) * 5000)
    put("nothing", b"")
    os.symlink(os.path.abspath("d/s"), "d/link")
    one = wb.Artifact("a", "t", storage_region="eu")
    out["entries"] = [
        entry(one.add_file("binary")),
        entry(one.add_file("nothing", "./deep//er/n.txt")),
        entry(one.add_file("nothing", name="media/n.tar.gz", is_tmp=True, skip_cache=True)),
    ]
    one.add_dir("d", name="pre/fix")
    with one.new_file("new/n.txt") as file:
        file.write("written")
    out["added"] = told(one)
    with one.new_file("new/n.txt", mode="a") as file:
        file.write(" and more")
    one.remove("pre/fix/s")
    one.remove(one.manifest.entries["binary"])
    out["changed"] = told(one)
    table = wb.Table(columns=["a", "b"], data=[[1, "x"], [2, None]])
    out["table"] = [str(one.add(table, name).path) for name in ("first", "second")]
    out["with_table"] = told(one)
    put("d/a", "other")
    out["merged"] = [why(one.add_dir, "d", name="pre/fix"), why(one.add_dir, "d", name="pre/fix", merge=True)]
    out["whole"] = told(one)
    for order in (("z", "a/b", "B"), ("B", "z", "a/b")):
        other = wb.Artifact("other", "t", incremental=True)
        for name in order:
            other.add_file("d/.hidden", name)
        out["_".join(order)] = other.digest
    return out


def masked(value):
    """Return entries with the scenario's own folder left out."""
    return json.loads(json.dumps(value).replace(os.getcwd(), "<cwd>"))


def by_address(found):
    """Return an unchecked file's entry; its digest is of where it is, which is another place each time."""
    name, digest, *rest, own = entry(found)
    address = pathlib.Path(found.ref.removeprefix("file://")).resolve().as_uri()
    is_of_address = digest == base64.b64encode(hashlib.md5(address.encode()).digest()).decode()
    return masked([name, is_of_address, *rest, {**own, "digest": None}])


@scenario
def artifact_references(wb):
    """References to files and folders, looked at or not, and to what nobody can look at."""
    for name in ("a", "s/b c", "é"):
        put(f"root/{name}", name)
    root = pathlib.Path("root").absolute()
    artifact, unchecked = wb.Artifact("a", "t"), wb.Artifact("b", "t")
    out = {}
    for name, uri, options in (
        ("folder", f"file://{root}", {}),
        ("slash", f"file://{root}/", {"name": "in"}),
        ("file", f"file://{root}/a", {"name": "one"}),
        ("web", "https://h.example/d/x.csv?v=1", {"checksum": False}),
        ("odd", "odd://h/p?q=1", {"name": pathlib.Path("p/q")}),
        ("again", f"file://{root}/s/b c", {"name": "a"}),
        ("nameless", "odd://h/p", {}),
        ("nowhere", "file:///does/not/exist", {}),
        ("no_uri", "some/path", {}),
        ("climbing", "odd://h/p", {"name": "../x"}),
        ("unnamed", f"file://{root}/a", {"name": ""}),
        ("many", f"file://{root}", {"name": "many", "max_objects": 2}),
    ):
        said = why(artifact.add_reference, uri, **options)
        out[name] = [said[0], masked(sorted(map(entry, said[1]))) if said[0] == "ok" else said[1]]
    for name, uri in (("folder", f"file://{root}"), ("file", f"file://{root}/a")):
        found = unchecked.add_reference(uri, name=name, checksum=False)
        out[f"unchecked_{name}"] = sorted(map(by_address, found))
    added = str(artifact.add_file(root / "a").path)
    out["file_after"] = [added, artifact.manifest.entries["a"].ref]
    out["all"] = masked(told(artifact))
    found = artifact.manifest.entries["p/q"]
    out["target"] = [found.ref_target(), why(artifact.manifest.entries["a"].ref_target)]
    return out


@scenario
def artifact_refusals(wb):
    """Names, types, paths that may not be, and what is wrong at its time, in the client's words."""
    put("f")
    put("g", "other")
    os.mkdir("d")
    out = {}
    for name in ("a b", "a/b", "", "x" * 128, "x" * 129, "é"):
        out[f"name:{name}"] = why(lambda: wb.Artifact(name, "t").name)
    for name, kind in (
        ("a", "job"),
        ("a", "wandb-x"),
        ("run-x", "run_table"),
        ("source-x", "code"),
        ("a", "code"),
    ):
        out[f"type:{kind}:{name}"] = why(lambda: wb.Artifact(name, kind).type)
    artifact = wb.Artifact("a", "t")
    for name in ("/a", "../a", "a/../b", ".", "..", "C:/x", "a:b", "./a", "a/", "a//b", "é/ü"):
        out[f"path:{name}"] = why(lambda: str(artifact.add_file("f", name=name).path))

    def new(name, **options):
        with artifact.new_file(name, **options) as file:
            file.write("x")

    out["calls"] = [
        why(artifact.add_file, "nope"),
        why(artifact.add_file, "d"),
        why(artifact.add_file, None),
        why(artifact.add_file, "f", policy="x"),
        why(artifact.add_file, "g", name="a"),
        why(artifact.add_dir, "f"),
        why(artifact.add_dir, "d", policy="x"),
        why(new, "../x"),
        why(new, ""),
        why(new, "p", policy="x"),
        why(artifact.remove, "nope"),
        why(artifact.get_entry, "a"),
        why(artifact.get_path, "a"),
        why(artifact.get, "a"),
        why(lambda: artifact["a"]),
        why(artifact.add, wb.Table(columns=["a"], data=[[1]]), "../t"),
    ]
    out["left"] = told(artifact)
    return out


@scenario
def artifact_metadata(wb):
    """What metadata may be, and what becomes of it; how long a version may live."""
    values = [
        None, {}, "", '{"a": 1}', "[1]", 5, [1], {1: 2}, {None: 1, True: 2}, {"a": float("nan")},
        {"a": float("inf")}, {"a": [-float("inf")]}, {"a": (1, 2)}, {"a": {"b": [1, None, True, 1.0]}},
        {"a": datetime.datetime(2020, 1, 2)}, {"a": b"x"}, {str(i): i for i in range(100)},
        {str(i): i for i in range(101)},
    ]  # fmt: skip
    out = {"given": [why(lambda: wb.Artifact("a", "t", metadata=value).metadata) for value in values]}
    artifact = wb.Artifact("a", "t", metadata={"x": 1})

    def set_to(name, value):
        setattr(artifact, name, value)
        return repr(getattr(artifact, name))

    out["set"] = [
        why(set_to, "metadata", value) for value in (None, 5, {"z": float("nan")}, {"z": float("inf")})
    ]
    out["ttl"] = [
        why(set_to, "ttl", value)
        for value in (
            None,
            datetime.timedelta(0),
            datetime.timedelta(seconds=-1),
            datetime.timedelta(seconds=1.7),
            5,
        )
    ]
    out["labels"] = [
        why(set_to, "aliases", ["a"]),
        why(set_to, "tags", ["a"]),
        why(set_to, "description", "d"),
    ]
    return out


@scenario
def artifact_states(wb):
    """What a draft says of itself, and what a finished one lets nobody change."""
    put("f")
    artifact = wb.Artifact("a", "t")
    names = (
        "id entity project name qualified_name version collection source_entity source_project source_name "
        "source_qualified_name source_version source_collection is_link linked_artifacts source_artifact type url "
        "description metadata ttl aliases tags distributed_id incremental state size commit_hash file_count "
        "created_at updated_at history_step digest linked_at"
    )
    out = {name: why(getattr, artifact, name) for name in names.split()}
    out["algorithm"] = str(artifact.digest_algorithm)
    for (
        name
    ) in "new_draft download checkout verify file files delete unlink used_by logged_by json_encode".split():
        out[name] = why(getattr(artifact, name))
    artifact.add_file("f")
    artifact.finalize()

    def new():
        with artifact.new_file("n") as file:
            file.write("x")

    out["finished"] = [
        why(artifact.add_file, "f"),
        why(artifact.add_dir, "."),
        why(new),
        why(artifact.add_reference, "odd://x", name="n"),
        why(artifact.remove, "f"),
        why(artifact.add, wb.Table(columns=["a"], data=[[1]]), "t"),
        artifact.state,
        artifact.is_draft(),
        len(artifact.manifest),
    ]
    artifact.description, artifact.metadata = "later", {"x": 1}
    out["said_later"] = [artifact.description, artifact.metadata]
    return out
