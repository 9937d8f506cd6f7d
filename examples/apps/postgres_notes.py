"""Notes in PostgreSQL, from many tasks, by triopg.

URING_TRIO=1 python postgres_notes.py postgresql://user@localhost/database
"""

import sys
from typing import Any

import trio
import trio_asyncio
import triopg


async def write(pool: Any, number: int) -> None:
    async with pool.acquire() as connection:
        async with connection.transaction():
            await connection.execute("INSERT INTO notes (text) VALUES ($1)", f"note {number}")


async def main(address: str) -> None:
    async with triopg.create_pool(address, min_size=1, max_size=4) as pool:
        await pool.execute("DROP TABLE IF EXISTS notes")
        await pool.execute("CREATE TABLE notes (id SERIAL, text VARCHAR)")
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(write, pool, number)
        print(await pool.fetchval("SELECT count(DISTINCT text) FROM notes"), "notes")
        with trio.move_on_after(0.1) as limit:
            await pool.execute("SELECT pg_sleep(60)")
        print("cancelled:", limit.cancelled_caught)
        print(await pool.fetchval("SELECT min(text) FROM notes"))
    print("by", trio.lowlevel.current_statistics().io_statistics.backend)


if __name__ == "__main__":
    trio_asyncio.run(main, sys.argv[1])
