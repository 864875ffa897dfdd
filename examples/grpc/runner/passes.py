"""The passes of the run, each with what it promises."""

import collections
import os
import re

from shop import CANARY, CLIENTS, INSTANCES, SHAKY
from support.metrics import total
from support.report import clock, milliseconds

SPIFFE = "spiffe://cluster.local/ns/default/sa"
# How far a count may be from its weight: each thread of a sidecar shares out by itself, exactly but
# for less than one call, and there are four at most.
EXACT = 4


def run_all(shop, options, report):
    shop.start_applications()
    shop.start_control("policy")
    shop.start_sidecars()
    canary(shop, options, report)
    orders(shop, options, report)
    retries(shop, options, report)
    change(shop, options, report)


def of_version(rows, version):
    return [row for row in rows if row.get("version") == version]


def answered(report, rows, where=""):
    bad = [row for row in rows if not row["ok"]]
    why = sorted({f"{row['code']}: {row.get('why')}" for row in bad})
    report.fact(f"answered{where}", not bad, f"each of {len(rows)} calls was answered",
                f"{len(bad)} of {len(rows)} calls failed: {why[:4]}")


def shares(report, by_client, asked):
    """A line for each client and version; the promise that the weights were kept."""
    lines, worst = [], 0.0
    for client, rows in by_client.items():
        for version, weight in asked.items():
            got = len(of_version(rows, version))
            worst = max(worst, abs(got - len(rows) * weight / 100))
            times = [row["end"] - row["at"] for row in of_version(rows, version)]
            lines.append((client, version, f"{weight} %", got, f"{100 * got / len(rows):.1f} %",
                          milliseconds(times, 50), milliseconds(times, 99)))
    report.table(("client", "version", "asked", "calls", "share", "p50", "p99"), lines)
    report.seen(versions={client: {v: len(of_version(rows, v)) for v in asked}
                          for client, rows in by_client.items()})
    report.fact("weights", worst <= EXACT, f"the counts are {worst:.1f} from the weights asked for")


def both(shop, options):
    """The calls of both clients, side by side, each on one connection."""
    under_way = {client: shop.call(client, "check", options.calls, options.rate) for client in CLIENTS}
    return {client: calls.rows() for client, calls in under_way.items()}


def canary(shop, options, report):
    report.section("canary", "Pass 1: policy/, CheckAvailability 80 to 20, one connection a client")
    by_client = both(shop, options)
    everything = [row for rows in by_client.values() for row in rows]
    shares(report, by_client, {"v1": 80, "v2": 20})
    answered(report, everything)
    instances = collections.Counter(row.get("instance") for row in everything)
    report.table(("instance", "language", "calls"),
                 [(name, language, instances[name]) for name, _, _, language in INSTANCES])
    v1 = [instances[name] for name, _, version, _ in INSTANCES if version == "v1"]
    report.fact("per call", min(v1) > sum(v1) / 4,
                "the calls of one connection went to every instance",
                f"the calls of one connection went to instances so: {dict(instances)}")
    callers = {client: sorted({row.get("caller") for row in rows})
               for client, rows in by_client.items()}
    report.fact("callers", all(callers[client] == [f"{SPIFFE}/{client}"] for client in callers),
                f"the servers know who called: {', '.join(sum(callers.values(), []))}",
                f"the servers were told of these callers: {callers}")
    said = total(shop.metrics("client-js"), "istio_requests_total", reporter="source",
                 request_protocol="grpc", grpc_response_status="0")
    report.fact("metrics", said == len(by_client["client-js"]),
                "istio_requests_total counts them as gRPC, grpc_response_status 0",
                f"istio_requests_total says {said:.0f}")


def orders(shop, options, report):
    report.section("orders", "Pass 2: orders through three services, in two languages")
    rows = shop.call("client-js", "order", options.calls // 10, options.rate // 10).rows()
    good = [row for row in rows if row["ok"]]
    unknown = [row for row in rows if row["code"] == 5]
    whole = [row for row in good if row["items"] == 3 and row["states"] == ["placed", "packed", "sent"]]
    report.fact("orders", len(whole) == len(rows) - len(rows) // 10,
                f"{len(whole)} orders: a user asked for, two items checked, a stream of items "
                "reserved, a stream of states tracked",
                f"{len(whole)} of {len(rows)} orders are whole: {rows[:3]}")
    report.fact("statuses", len(unknown) == len(rows) // 10 and
                all("no user" in row["why"] for row in unknown),
                f"{len(unknown)} orders of nobody: NOT_FOUND, in the words of user-service",
                f"other answers: {[row for row in rows if not row['ok']][:3]}")
    callers = sorted({row["user"].get("caller", "") for row in good})
    report.fact("hops", callers == [f"{SPIFFE}/order-service"],
                f"user-service was called by {SPIFFE}/order-service",
                f"user-service was told of these callers: {callers}")
    lines = []
    for pod in ("orders", "users", *(name for name, *_ in INSTANCES)):
        text = shop.metrics(pod)
        counts = {code: total(text, "istio_requests_total", reporter="destination",
                              request_protocol="grpc", grpc_response_status=code)
                  for code in ("0", "5", "14")}
        lines.append((pod, *(f"{count:.0f}" for count in counts.values())))
    report.table(("server's sidecar", "OK", "NOT_FOUND", "UNAVAILABLE"), lines)


def retries(shop, options, report):
    report.section("retries", f"Pass 3: {SHAKY} refuses every third call; policy-retries/")
    shop.apply("policy-retries")
    shop.wait_live(CANARY)
    path = shop.shaking(SHAKY)
    with open(path, "w", encoding="ascii"):
        os.chmod(path, 0o666)
    by_client = both(shop, options)
    refused = os.path.getsize(path)
    os.unlink(path)
    answered(report, [row for rows in by_client.values() for row in rows])
    report.fact("rescued", refused > 0,
                f"{refused} calls were answered UNAVAILABLE, and again elsewhere: no client saw one")
    shares(report, by_client, {"v1": 80, "v2": 20})
    report.seen(refused=refused)


def change(shop, options, report):
    report.section("change", "Pass 4: 80/20 becomes 50/50 while calls flow")
    text = re.sub(r"weight: (80|20)$", "weight: 50", shop.read(CANARY), flags=re.M)
    under_way = {client: shop.call(client, "check", options.calls, options.rate) for client in CLIENTS}
    written = shop.write(CANARY, text)
    shop.wait_live(CANARY)
    report.line(f"{clock(written)}  the file was written, and is live")
    rows = [row for calls in under_way.values() for row in calls.rows()]
    answered(report, rows)
    by_client = both(shop, options)
    shares(report, by_client, {"v1": 50, "v2": 50})
    answered(report, [row for rows in by_client.values() for row in rows], " afterwards")
