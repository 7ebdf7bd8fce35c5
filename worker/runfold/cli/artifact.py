"""`runfold artifact`: download a version, log one, list them."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runfold.cli.options import AsJson, TimeoutS, Url, api_for
from runfold.cli.output import console, print_json, print_table
from runfold.errors import UsageError

if TYPE_CHECKING:
    from runfold.artifacts.artifact import Artifact

artifact = typer.Typer(
    name="artifact",
    help="Artifacts: get, put, ls.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@artifact.command()
def get(  # noqa: PLR0917 - options, given by name
    name: Annotated[str, typer.Argument(help='"[entity/[project/]]name:version", or an alias instead.')],
    root: Annotated[
        Path | None, typer.Option(help="Where to; default: artifacts/<name>:<version> here.")
    ] = None,
    type_name: Annotated[str | None, typer.Option("--type", help="What its type must be.")] = None,
    url: Url = None,
    timeout_s: TimeoutS = 30.0,
    as_json: AsJson = False,
) -> None:
    """Download a version's files, each verified."""
    found = api_for(url, timeout_s).artifact(name, type_name)
    folder = found.download(root)
    if as_json:
        print_json({**_document(found), "path": folder})
    else:
        console().print(f"{found.qualified_name}: {found.file_count:,} files in {folder}")


@artifact.command()
def put(  # noqa: PLR0917 - options, given by name
    path: Annotated[Path, typer.Argument(help="A file or a folder.")],
    name: Annotated[
        str | None,
        typer.Option("--name", "-n", help='"[entity/[project/]]name"; default: what it is called.'),
    ] = None,
    type_name: Annotated[str, typer.Option("--type", "-t", help="What kind of thing it is.")] = "dataset",
    alias: Annotated[
        list[str] | None, typer.Option("--alias", "-a", help="Another name of it; may be repeated.")
    ] = None,
    description: Annotated[str | None, typer.Option("--description", "-d", help="A text for people.")] = None,
    run_id: Annotated[
        str | None, typer.Option("--id", help="The run that logs it; default: a new one.")
    ] = None,
    url: Url = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=0.001, help="Longest wait until the server has it, seconds.")
    ] = 3600.0,
    as_json: AsJson = False,
) -> None:
    """Log a file or a folder as a version, by a run of its own, and wait until the server has it."""
    from runfold.artifacts.artifact import Artifact
    from runfold.init import init
    from runfold.protocol.artifact_names import ArtifactPath
    from runfold.settings import Settings

    if not path.exists():
        raise UsageError(f"there is no {path}")
    asked = ArtifactPath.parse(name or path.resolve().name)
    if asked.version is not None:
        raise UsageError(f"{name}: the server gives versions their numbers; --alias gives another name")
    draft = Artifact(asked.name, type_name, description)
    if path.is_dir():
        draft.add_dir(path)
    else:
        draft.add_file(path)
    settings = Settings(console="off", silent=True, **({"base_url": url} if url else {}))
    with init(
        project=asked.project,
        entity=asked.entity,
        id=run_id,
        job_type="cli",
        mode="online",
        settings=settings,
    ) as run:
        run.log_artifact(draft, aliases=alias)
        draft.wait(timeout_s)
    if as_json:
        print_json(_document(draft))
    else:
        console().print(f"{draft.qualified_name}: {draft.file_count:,} files, {draft.size:,} bytes")


@artifact.command()
def ls(  # noqa: PLR0917 - options, given by name
    path: Annotated[
        str | None,
        typer.Argument(help='"entity/project" or "project"; without it, the default project.'),
    ] = None,
    type_name: Annotated[str | None, typer.Option("--type", "-t", help="Only of this type.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most to list.")] = 100,
    url: Url = None,
    timeout_s: TimeoutS = 30.0,
    as_json: AsJson = False,
) -> None:
    """List the newest version of each artifact of a project."""
    api = api_for(url, timeout_s)
    types = [type_name] if type_name else [each.name for each in api.artifact_types(path)]
    found = [
        version
        for each in types
        for collection in api.artifact_collections(path or "", each)
        for version in islice(collection.artifacts(per_page=1), 1)
    ][:limit]
    if as_json:
        print_json({"artifacts": [_document(each) for each in found]})
        return
    if not found:
        console().print("no artifacts")
        return
    columns = ["type", "name", "aliases", "files", "bytes", "made"]
    rows = (
        [each.type, each.name, ", ".join(each.aliases), each.file_count, each.size, each.created_at]
        for each in found
    )
    print_table(columns, rows, numbers=["files", "bytes"])


def _document(found: Artifact) -> dict[str, Any]:
    return {
        "name": found.qualified_name,
        "type": found.type,
        "version": found.version,
        "aliases": found.aliases,
        "tags": found.tags,
        "digest": found.digest,
        "size": found.size,
        "file_count": found.file_count,
        "created_at": found.created_at,
    }
