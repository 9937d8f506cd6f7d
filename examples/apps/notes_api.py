"""Notes kept in files, served by FastAPI.

NOTES=/tmp URING_TRIO=1 hypercorn --worker-class trio notes_api:app
curl -X PUT --json '{"text": "milk"}' localhost:8000/notes/shopping
curl localhost:8000/notes/shopping
"""

import os
from pathlib import Path
from typing import Annotated

import anyio
import trio
from fastapi import FastAPI, HTTPException
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse
from pydantic import BaseModel

FOLDER = Path(os.environ.get("NOTES", "."))

app = FastAPI()
Name = Annotated[str, PathParameter(pattern="^[a-z]+$")]


class Note(BaseModel):
    text: str


@app.put("/notes/{name}", status_code=204)
async def write(name: Name, note: Note) -> None:
    async with await anyio.open_file(FOLDER / f"{name}.txt", "w") as file:
        await file.write(note.text)


@app.get("/notes/{name}")
async def read(name: Name) -> Note:
    try:
        return Note(text=await anyio.Path(FOLDER / f"{name}.txt").read_text())
    except FileNotFoundError:
        raise HTTPException(404, f"there is no note {name}") from None


@app.get("/notes/{name}/file")
async def download(name: Name) -> FileResponse:
    return FileResponse(FOLDER / f"{name}.txt")


@app.get("/names")
def names() -> list[str]:
    """A plain function: FastAPI calls it in a thread, so it may block."""
    return sorted(path.stem for path in FOLDER.glob("*.txt"))


@app.get("/backend")
async def backend() -> str:
    return trio.lowlevel.current_statistics().io_statistics.backend
