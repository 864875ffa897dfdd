"""The passes of the run, each with what it promises."""

import datetime
import re
import threading
import time

from mesh import BAD, CANARY, INSTANCES, SERVICE
from support.metrics import series, total
from support.places import wait_until
from support.process import Failed
from support.report import clock, milliseconds, percentile

TRUST_DOMAIN = "cluster.local"
CLIENT_ID = f"spiffe://{TRUST_DOMAIN}/ns/default/sa/client"
SERVER_ID = f"spiffe://{TRUST_DOMAIN}/ns/default/sa/order-service"
# An endpoint is left out after so many 500s in a row (policy/).
CONSECUTIVE = 5
# How far a count may be from its weight: each thread of a sidecar shares out by itself, exactly but
# for less than one request, and there are four at most.
EXACT = 4


def run_all(mesh, options, report):
    fail_from = options.requests // 10
    mesh.start_applications(fail_from)
    bare = without_mesh(mesh, options, report)
    begin = time.monotonic()
    mesh.start_control("policy")
    mesh.start_sidecars()
    report.line(f"control and six sidecars are up after {time.monotonic() - begin:.1f} s")
    mesh.apps("POST /reset")
    weights(mesh, options, report, bare)
    retries(mesh, options, report)
    header(mesh, options, report)
    change(mesh, options, report)


# ---- what is said of requests ----

def failed(rows):
    """Answers that the application did not give."""
    return [row for row in rows if row["by"] != "application"]


def with_status(rows, status):
    return [row for row in rows if row["by"] == "application" and row["status"] == status]


def of_version(rows, version):
    return [row for row in rows if row.get("version") == version]


def version_table(report, rows, asked):
    report.table(("version", "asked", "requests", "share", "200", "500"),
                 [(version, f"{weight} %", len(got), f"{100 * len(got) / max(1, len(rows)):.2f} %",
                   len(with_status(got, 200)), len(with_status(got, 500)))
                  for version, weight in asked.items()
                  for got in (of_version(rows, version),)])
    report.seen(versions={version: len(of_version(rows, version)) for version in asked})


def weights_fact(report, rows, asked):
    worst = max(abs(len(of_version(rows, version)) - len(rows) * weight / 100)
                for version, weight in asked.items())
    report.fact("weights", worst <= EXACT,
                f"the counts are {worst:.1f} from the weights asked for")


def failed_fact(report, rows):
    bad = failed(rows)
    why = sorted({f"{row['status']} {row['why']}" for row in bad})
    report.fact("no failed request", not bad,
                f"every answer of {len(rows)} is the application's own",
                f"{len(bad)} of {len(rows)} answers are not the application's: {why[:5]}")


# ---- what a sidecar says ----

def ejected_now(mesh):
    """Addresses that the client's sidecar leaves out."""
    return {endpoint["address"] for cluster in mesh.admin("client", "/clusters")["clusters"]
            for endpoint in cluster["endpoints"] if endpoint["ejected"]}


def ejections(mesh, since_us):
    """What the client's sidecar has logged since then: [(microseconds since 1970, out or back)]."""
    events = []
    for line in mesh.log("client").splitlines():
        stamp, _, said = line.partition(" ")
        if "endpoint ejected" in said or ("outlier detection" in said and "returned=0" not in said):
            at = unix_us(stamp)
            if at >= since_us:
                events.append((at, "ejected" if "endpoint ejected" in said else "back"))
    return events


def unix_us(text):
    """RFC 3339, as the API and the logs write it."""
    when = datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ")
    return int(when.replace(tzinfo=datetime.timezone.utc).timestamp() * 1e6)


def now_us():
    return time.time_ns() // 1000


# ---- the passes ----

def without_mesh(mesh, options, report):
    """The same load on the bare applications, in the same places, before any sidecar runs."""
    report.section("without_mesh", "Without the mesh")
    rows = mesh.load(options.requests // 2, options.rate, direct=True).rows()
    times = [row["us"] for row in rows]
    report.line(f"{len(rows)} requests to the five instances: p50 {milliseconds(times, 50)}, "
                f"p99 {milliseconds(times, 99)}")
    failed_fact(report, rows)
    return times


def weights(mesh, options, report, bare):
    asked = {"v1": 90, "v2": 10}
    report.section("pass1", "Pass 1: policy/, 90 to 10, and one instance of v1 goes bad")
    begin = now_us()
    rows = mesh.load(options.requests, options.rate).rows()
    version_table(report, rows, asked)
    weights_fact(report, rows, asked)
    failed_fact(report, rows)
    ejection(report, rows, ejections(mesh, begin))
    metrics_fact(mesh, report, rows)
    identities(mesh, report)
    times = [row["us"] for row in rows]
    report.table(("latency", "p50", "p99"),
                 [("without the mesh", milliseconds(bare, 50), milliseconds(bare, 99)),
                  ("through two sidecars", milliseconds(times, 50), milliseconds(times, 99))])
    memory = mesh.private_memory_kb()
    report.line(f"private memory of a sidecar: the client's {memory['client'] / 1024:.1f} MB, "
                f"of order-service {min(v for k, v in memory.items() if k != 'client') / 1024:.1f} "
                f"to {max(v for k, v in memory.items() if k != 'client') / 1024:.1f} MB")
    report.seen(memory_kb=memory, p50_us=percentile(times, 50), p99_us=percentile(times, 99),
                bare_p50_us=percentile(bare, 50), bare_p99_us=percentile(bare, 99))


def ejection(report, rows, events):
    """How many 500s came through, and that none was sent for afterwards."""
    broken = sorted(with_status(rows, 500), key=lambda row: row["end"])
    report.seen(came_through=len(broken))
    if len(broken) < CONSECUTIVE:
        report.fact("ejection", False, "", f"{len(broken)} answers of 500: {BAD} was never "
                    f"as bad as {CONSECUTIVE} in a row")
        return
    decided = broken[CONSECUTIVE - 1]["end"]
    in_flight = [row for row in broken[CONSECUTIVE:] if row["at"] <= decided]
    late = len(broken) - CONSECUTIVE - len(in_flight)
    after = [row for row in rows if row.get("instance") == BAD and row["at"] > decided]
    report.fact("ejection", late == 0 and not after,
                f"{BAD} gave {CONSECUTIVE} answers of 500 ({len(in_flight)} more were in flight), "
                f"was left out, and got nothing more",
                f"{BAD}: {len(broken)} answers of 500 came through, {len(after)} requests reached "
                f"it after the fifth")
    report.line(f"the fifth answer of 500 at {clock(decided)}" +
                "".join(f"; {what} at {clock(at)}" for at, what in events))
    report.fact("ejected once", [what for _, what in events] == ["ejected"],
                "the client's sidecar logged one ejection",
                f"the client's sidecar logged {[what for _, what in events]}")


def metrics_fact(mesh, report, rows):
    """What Prometheus would read at the client's sidecar is what the client saw."""
    text = mesh.metrics("client")
    seen, said = {}, {}
    for version in ("v1", "v2"):
        for status in (200, 500):
            key = f"{version} {status}"
            seen[key] = len(with_status(of_version(rows, version), status))
            said[key] = total(text, "istio_requests_total", reporter="source",
                               destination_service_name="order-service",
                               destination_version=version, response_code=str(status))
    report.fact("metrics", seen == said, "the sidecar's istio_requests_total says the same",
                f"istio_requests_total says {said}")


def identities(mesh, report):
    """Who each end says that the other is."""
    stats = mesh.apps()
    said = {peer for one in stats.values() for peer in one["peers"]}
    uris = {part[4:].strip('"') for peer in said for part in peer.split(";")
            if part.startswith("URI=")}
    report.fact("the service knows its caller", uris == {CLIENT_ID} and
                not any(one["unidentified"] for one in stats.values()),
                f"order-service was called by {', '.join(sorted(uris)) or 'nobody it knows'}",
                f"order-service was called by {sorted(uris)}, and "
                f"{sum(one['unidentified'] for one in stats.values())} requests told no caller")
    text = mesh.metrics("client")
    principals = {labels["destination_principal"]
                  for labels, _ in series(text, "istio_requests_total")}
    mutual = total(text, "istio_requests_total", reporter="source")
    report.fact("the client knows the service",
                {p.removeprefix("spiffe://") for p in principals} ==
                {SERVER_ID.removeprefix("spiffe://")},
                f"the client's {mutual:.0f} requests went to {', '.join(sorted(principals))}")
    report.seen(callers=sorted(uris), services=sorted(principals))


def apply(mesh, report, policy):
    mesh.apply(policy)
    mesh.wait_live(CANARY)
    report.line(f"{policy}/ is live, generation {mesh.status()['generation']}")


def retries(mesh, options, report):
    report.section("pass2", "Pass 2: policy-retries/, retries on 5xx, intervals of a second")
    apply(mesh, report, "policy-retries")
    wait_until(lambda: not ejected_now(mesh), f"{BAD} to be tried again")
    before, begin = mesh.apps(), now_us()
    # Slower: a retry waits a little, and no more than three may wait at once where few requests
    # are under way (the retry budget), so that retries never become a storm.
    rows = mesh.load(options.requests, max(50, options.rate // 4)).rows()
    after = mesh.apps()
    broken = after[BAD]["failed"] - before[BAD]["failed"]
    rescued = sum(after[name]["requests"] - before[name]["requests"] for name in after) - len(rows)
    version_table(report, rows, {"v1": 90, "v2": 10})
    failed_fact(report, rows)
    report.fact("no 500", not with_status(rows, 500), "no answer of 500 reached the client",
                f"{len(with_status(rows, 500))} answers of 500 reached the client; verdicts on "
                f"retries: {verdicts(mesh)}")
    report.fact("rescued", broken > 0 and rescued == broken,
                f"{BAD} answered 500 to {broken} requests; each was sent again elsewhere and "
                "answered 200", f"{BAD} answered 500 to {broken} requests, {rescued} were sent again")
    events = ejections(mesh, begin)
    out = [at for at, what in events if what == "ejected"]
    back = [at for at, what in events if what == "back"]
    report.fact("ejected and back", out and back,
                f"{BAD} was ejected {len(out)} times and came back {len(back)} times, each time out "
                "for longer:", f"{BAD} was ejected {len(out)} times, and came back {len(back)} times")
    report.line(", ".join(f"{clock(at)} {what}" for at, what in events))
    report.seen(rescued=rescued, broken=broken, ejected=len(out), back=len(back))


def verdicts(mesh):
    """What was decided about retries, ever."""
    found = re.findall(r'^pillion_retry_verdicts_total{why="([^"]*)"} (\S+)$', mesh.metrics("client"),
                       re.M)
    return ", ".join(f"{why} {count}" for why, count in found)


def header(mesh, options, report):
    report.section("pass3", "Pass 3: policy-header/, the header x-canary chooses v2")
    apply(mesh, report, "policy-header")
    rows = mesh.load(options.requests // 2, options.rate, "--header", "x-canary: yes",
                     "--header-every", 4).rows()
    tagged = [row for row in rows if row["tagged"]]
    others = [row for row in rows if not row["tagged"]]
    report.table(("requests", "to v1", "to v2"),
                 [("with x-canary", len(of_version(tagged, "v1")), len(of_version(tagged, "v2"))),
                  ("without", len(of_version(others, "v1")), len(of_version(others, "v2")))])
    failed_fact(report, rows)
    report.fact("header", tagged and len(of_version(tagged, "v2")) == len(tagged),
                f"all {len(tagged)} requests with x-canary reached v2",
                f"{len(of_version(tagged, 'v2'))} of {len(tagged)} with x-canary reached v2")
    weights_fact(report, others, {"v1": 90, "v2": 10})
    report.seen(tagged=len(tagged), tagged_v2=len(of_version(tagged, "v2")))


class Generations(threading.Thread):
    """Notes, while requests flow, the generation of the policy by which the client's sidecar sent
    each: its recorder keeps the newest few hundred requests, so it is read again and again."""

    def __init__(self, mesh):
        super().__init__(daemon=True)
        self._mesh, self._end = mesh, threading.Event()
        self.of = {}  # x-request-id -> generation

    def read(self):
        for record in self._mesh.admin("client", "/exchanges")["exchanges"]:
            if "request_id" in record:
                self.of[record["request_id"]] = record["route"].get("generation")

    def run(self):
        while not self._end.wait(0.15):
            self.read()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self.join()
        self.read()


def acknowledgements(mesh, since_us, generation):
    """{node id: microseconds since 1970} of the sidecars that answered for a change that was
    written then; None while one that holds what changed is behind."""
    status = mesh.status()
    sidecars = status["sidecars"]
    if status["generation"] < generation or any(one["behind"] for one in sidecars):
        return None
    times = {one["id"]: unix_us(one["acknowledged_at"]) for one in sidecars
             if one.get("acknowledged_at")}
    return {who: at for who, at in times.items() if at >= since_us} or None


def change(mesh, options, report):
    report.section("pass4", "Pass 4: the instance is healed; 90/10 becomes 50/50 while requests flow")
    mesh.app(BAD, "POST /heal")
    wait_until(lambda: not ejected_now(mesh), f"{BAD} to be back")
    report.line(f"{BAD} is healed and back")
    apply(mesh, report, "policy")
    old = mesh.generation_of("VirtualService", SERVICE)
    text = re.sub(r"weight: (90|10)$", "weight: 50", mesh.read(CANARY), flags=re.M)
    with Generations(mesh) as seen:
        load = mesh.load(2 * options.requests, options.rate)
        prefix = mesh.load_id()
        time.sleep(options.requests / options.rate)  # half of them
        written = mesh.write(CANARY, text)
        mesh.wait_live(CANARY)
        new = mesh.generation_of("VirtualService", SERVICE)
        acks = wait_until(lambda: acknowledgements(mesh, written, new), "the acknowledgements")
        if not load.running():
            raise Failed("the change came after the last request")
        rows = sorted(load.rows(), key=lambda row: row["at"])
    last = max(acks.values())
    report.line(f"{clock(written)}  the file was written")
    for who, at in sorted(acks.items(), key=lambda item: item[1]):
        report.line(f"{clock(at)}  {who.split('~')[2]} acknowledged generation {new} "
                    f"({(at - written) / 1000:.0f} ms)")
    held = {one["id"] for one in mesh.status()["sidecars"]} - set(acks)
    report.line(f"the other {len(held)} sidecars hold nothing of that file")
    generation = {row["n"]: seen.of.get(f"{prefix}-{row['n']}") for row in rows}
    first = next((row for row in rows if generation[row["n"]] == new), None)
    if first:
        report.line(f"{clock(first['at'])}  the first request under the new weight "
                    f"({(first['at'] - written) / 1000:.0f} ms)")
    late = [row for row in rows if row["at"] > last and generation[row["n"]] == old]
    known = sum(1 for one in generation.values() if one in (old, new))
    report.fact("generations", first is not None and not late and known >= 0.9 * len(rows),
                f"no request was sent under the old weight after the last acknowledgement "
                f"({known} of {len(rows)} requests tell their generation)",
                f"{len(late)} requests under the old weight after the last acknowledgement; "
                f"{known} of {len(rows)} tell their generation")
    for name, asked, some in (
            ("before the file was written", {"v1": 90, "v2": 10},
             [row for row in rows if row["end"] < written]),
            ("after the last acknowledgement", {"v1": 50, "v2": 50},
             [row for row in rows if row["at"] > last])):
        print()
        report.line(name)
        version_table(report, some, asked)
        weights_fact(report, some, asked)
    failed_fact(report, rows)
    report.fact("no 500", not with_status(rows, 500), "no answer of 500")
    report.seen(acknowledged_ms={who: (at - written) / 1000 for who, at in acks.items()},
                instances={name: len([1 for row in rows if row.get("instance") == name])
                           for name, _, _ in INSTANCES})
