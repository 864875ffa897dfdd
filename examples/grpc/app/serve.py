"""InventoryService and UserService over grpcio: serve.py inventory|user; shop.proto has their words.
The modules that grpc_tools makes of it are on PYTHONPATH."""

import argparse
import concurrent.futures
import os
import re
import signal
import threading

import grpc
import shop_pb2
import shop_pb2_grpc


class Common:
    """What every server here does with a call first."""

    def __init__(self, options):
        self._options, self._lock, self._calls = options, threading.Lock(), 0

    def seen(self, context):
        told = dict(context.invocation_metadata()).get("x-forwarded-client-cert", "")
        uri = re.search(r"URI=([^;,]*)", told)
        return shop_pb2.Seen(version=self._options.version, instance=self._options.instance,
                             caller=uri.group(1) if uri else "")

    def maybe_fail(self, context):
        """Every third call, for as long as somebody wants it."""
        if self._options.fail_while and os.path.exists(self._options.fail_while):
            with self._lock:
                self._calls += 1
                bad = self._calls % 3 == 0
            if bad:
                with open(self._options.fail_while, "a", encoding="ascii") as file:
                    file.write("x")
                context.abort(grpc.StatusCode.UNAVAILABLE, "not now")


class Inventory(Common, shop_pb2_grpc.InventoryServiceServicer):
    def CheckAvailability(self, request, context):
        self.maybe_fail(context)
        return shop_pb2.Availability(item=request, available=request.quantity < 100,
                                     seen=self.seen(context))

    def ReserveItems(self, request_iterator, context):
        count = sum(item.quantity for item in request_iterator)
        return shop_pb2.Reservation(id=f"r-{count}", items=count, seen=self.seen(context))


class Users(Common, shop_pb2_grpc.UserServiceServicer):
    def GetUser(self, request, context):
        if not request.id.startswith("u"):
            context.abort(grpc.StatusCode.NOT_FOUND, f"no user {request.id}")
        return shop_pb2.User(id=request.id, name=f"Name of {request.id}", seen=self.seen(context))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("service", choices=("inventory", "user"))
    for name in ("--listen", "--version", "--instance", "--fail-while"):
        parser.add_argument(name)
    options = parser.parse_args()
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(16))
    if options.service == "inventory":
        shop_pb2_grpc.add_InventoryServiceServicer_to_server(Inventory(options), server)
    else:
        shop_pb2_grpc.add_UserServiceServicer_to_server(Users(options), server)
    if not server.add_insecure_port(options.listen):
        raise SystemExit(f"{options.listen} cannot be listened on")
    server.start()
    signal.signal(signal.SIGTERM, lambda *_: server.stop(1))
    server.wait_for_termination()


if __name__ == "__main__":
    main()
