"""What ``/-/ready`` of an agent says. Pure."""

from __future__ import annotations

from collections.abc import Collection

from promring.agent.slicefile import SliceFile


def unready(files: Collection[SliceFile]) -> str:
    """Why files are not what a controller wants, a line each; empty when they are, or when there is nobody to say so. What
    is not offered any more nobody wants.
    """
    offered = [file for file in files if file.offered]
    if not any(file.keeps for file in files):
        why = next((f": {file.service}: {file.trouble}" for file in offered if file.trouble), "")
        return f"no slice yet{why}"
    said = [f"{file.service}: {why}" for file in offered if (why := file.fence.frozen())]
    said += [f"{file.service}: no slice yet: {file.trouble}" for file in offered if file.trouble and not file.keeps]
    return "\n".join(said)


def remarks(files: Collection[SliceFile], reload_trouble: str) -> str:
    """Which files stay though nobody offers anything for them, or another slice could not be taken, a line each; and why
    the scraper could not be reloaded.
    """
    said = [f"{f.service}: not offered any more, {f.path} stays" for f in files if not f.offered and f.is_there]
    said += [f"{f.service}: stays as it was: {f.trouble}" for f in files if f.offered and f.trouble and f.keeps]
    said += [f"the scraper could not be reloaded: {reload_trouble}"] if reload_trouble else []
    return "\n".join(said)
