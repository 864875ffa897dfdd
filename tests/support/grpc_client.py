"""A gRPC client that knows xds:///NAME only, in a process of its own: the library reads its
bootstrap once. Each line of stdin is a JSON object {"calls": N, "metadata": [[name, value]]}; each
line of stdout counts the answers."""

import collections
import json
import sys

import grpc


def main():
    channel = grpc.insecure_channel(f"xds:///{sys.argv[1]}")
    call = channel.unary_unary("/test.Order/Version")
    for line in sys.stdin:
        ask = json.loads(line)
        counts = collections.Counter()
        for _ in range(ask["calls"]):
            try:
                answer = call(b"", timeout=20, wait_for_ready=True,
                              metadata=[tuple(pair) for pair in ask.get("metadata", [])])
                counts[answer.decode()] += 1
            except grpc.RpcError as error:
                counts[f"{error.code().name}: {error.details()}"] += 1
        print(json.dumps(counts), flush=True)


main()
