#!/usr/bin/python3
"""An independent parser (h11) over what the client codec sends upstream sees exactly the requests
that the server codec counted, for every input of tests/wire/corpus (CONNECT and Upgrade apart).

usage: corpus_codec_test.py [PATH OF unit_http_corpus_test]"""

import pathlib
import subprocess
import sys
import tempfile

import h11

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEFAULT = ROOT / "build/dev/unit/unit_http_corpus_test"


def complete_requests(raw):
    """How many whole requests h11 finds; raises what h11 raises for bytes that it refuses."""
    server = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    server.receive_data(raw)
    count = 0
    while True:
        event = server.next_event()
        if event is h11.NEED_DATA:
            return count
        if event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
            return count
        if isinstance(event, h11.EndOfMessage):
            count += 1
            server.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
            server.send(h11.EndOfMessage())
            if server.our_state is not h11.DONE:
                return count
            server.start_next_cycle()


def is_tunnel(raw):
    return raw.startswith(b"CONNECT ") or b"\r\nUpgrade: " in raw


def main():
    program = sys.argv[1] if len(sys.argv) > 1 else DEFAULT
    wrong = checked = 0
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([program, folder], cwd=ROOT, check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        for path in sorted(pathlib.Path(folder).glob("*.up")):
            raw = path.read_bytes()
            expected = int(path.with_suffix(".count").read_text())
            if is_tunnel(raw):
                continue
            checked += 1
            try:
                found = complete_requests(raw)
            except h11.RemoteProtocolError as error:
                found = f"refused: {error}"
            if found != expected:
                print(f"{path.stem}: we counted {expected}, h11 {found}")
                wrong += 1
    print(f"{checked} inputs, {wrong} differ")
    return 1 if wrong or checked < 100 else 0


if __name__ == "__main__":
    sys.exit(main())
