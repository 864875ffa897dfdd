"""Calls InventoryService over grpcio, all on one connection, and prints what became of each: JSON,
{ok, code, version, instance, caller, at, end} (microseconds since 1970)."""

import argparse
import json
import sys
import time

import grpc
import shop_pb2
import shop_pb2_grpc


def now_us():
    return time.time_ns() // 1000


def judge(row, call):
    row["end"] = now_us()
    try:
        seen = call.result().seen
        row.update(ok=True, code=0, version=seen.version, instance=seen.instance, caller=seen.caller)
    except grpc.RpcError as error:
        row.update(ok=False, code=error.code().value[0], why=error.details())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--to", required=True)
    parser.add_argument("--authority", required=True)
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--rate", type=int, required=True)
    options = parser.parse_args()
    rows, calls = [], []
    with grpc.insecure_channel(options.to, [("grpc.default_authority", options.authority),
                                            ("grpc.enable_retries", 0)]) as channel:
        grpc.channel_ready_future(channel).result(20)
        inventory = shop_pb2_grpc.InventoryServiceStub(channel)
        begin = time.monotonic()
        for number in range(options.calls):
            time.sleep(max(0.0, begin + number / options.rate - time.monotonic()))
            row = {"at": now_us()}
            rows.append(row)
            item = shop_pb2.Item(sku=f"s{number}", quantity=1)
            call = inventory.CheckAvailability.future(item, timeout=20)
            call.add_done_callback(lambda done, row=row: judge(row, done))
            calls.append(call)
        for call in calls:
            call.exception()
        while any("end" not in row for row in rows):
            time.sleep(0.01)  # the callbacks have a thread of their own
    json.dump(rows, sys.stdout)


if __name__ == "__main__":
    main()
