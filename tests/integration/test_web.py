"""The web application of examples/: it answers, and it stops although its contact is dead."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import aiohttp
import aiohttp.web

from examples.ask import application
from peers import Identity
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.support.processes import environment

SAID = "the close was not answered within 1 s"
EXAMPLES = Path(__file__).parents[2] / "examples"
ECHO = """
import asyncio, sys
from peers import Identity, Peer

async def echo(session):
    async for message in session:
        print("asked", flush=True)
        if message != b"silence":
            await session.send(message)

async def main():
    async with Peer(Identity.load_or_create(sys.argv[1]), sys.argv[2]) as peer:
        serving = asyncio.create_task(peer.serve("chat", echo))
        await peer.published()
        print("here", flush=True)
        await serving

asyncio.run(main())
"""


async def started(*command: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment() | {"PYTHONPATH": str(EXAMPLES.parent)},
    )


async def says(process: asyncio.subprocess.Process, word: str) -> str:
    assert process.stdout is not None
    said = ""
    while word not in (line := (await process.stdout.readline()).decode()):
        said += line
        assert line, f"it ended before it said {word}: {said}"
    return line


async def test_it_answers_and_stops_although_its_contact_is_dead(tmp_path: Path) -> None:
    """Both the contact and the web application are programs of their own."""
    key = str(tmp_path / "contact.key")
    guid = Identity.load_or_create(key).guid
    async with asyncio.timeout(60), RelayServer(RelayConfig(port=0)) as relay:
        contact = await started("-c", ECHO, key, relay.url)
        web = await started(str(EXAMPLES / "ask.py"), relay.url, guid, "0")
        try:
            await says(contact, "here")
            url = (await says(web, "Running on")).split()[-2]
            async with aiohttp.ClientSession() as client:
                async with client.get(f"{url}/ask?text=hello") as answer:
                    assert (answer.status, await answer.text()) == (200, "hello")
                async with client.get(f"{url}/nothing") as answer:
                    assert answer.status == 404

                async def ask() -> tuple[int, str]:
                    async with client.get(f"{url}/ask?text=silence") as answer:
                        return answer.status, await answer.text()

                asking = asyncio.create_task(ask())
                await says(contact, "asked")
                await says(contact, "asked")
                os.kill(contact.pid, signal.SIGSTOP)
                # As a service manager stops it.
                web.terminate()
                status, said = await asking
                # Its own peer has ended the wait; the session would go on for much longer, and the
                # server would have cut the request off.
                assert (status, said.strip()) == (504, f"{SAID} (0 messages were not acknowledged)")
                assert await web.wait() == 0
        finally:
            for process in (contact, web):
                if process.returncode is None:
                    process.kill()
                    await process.wait()


async def test_a_contact_that_is_not_there_is_no_fault_of_the_application() -> None:
    async with asyncio.timeout(60), RelayServer(RelayConfig(port=0)) as relay:
        runner = aiohttp.web.AppRunner(application(relay.url, Identity.generate().guid))
        await runner.setup()
        await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        async with (
            aiohttp.ClientSession() as client,
            client.get(f"http://{host}:{port}/ask?text=x") as answer,
        ):
            assert answer.status == 503
        await runner.cleanup()
