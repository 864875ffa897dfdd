"""Routes that a destination names instead of having them: both become one configuration."""

import contextlib
import unittest

from google.protobuf import json_format

from support import xds
from support.fake_control import FakeControl, to_app
from support.net import wait_for
from support.program import temp_folder
from support.sidecar import App, Sidecar, ask

TARGET = "app:80"
KEY = "host/app:80"
ROUTES = "routes-of-app"
RouteConfiguration = xds.message("envoy.config.route.v3.RouteConfiguration")


def routes(cluster, name=ROUTES):
    return json_format.ParseDict({"name": name, "virtual_hosts": [{
        "name": "all", "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}]}]}, RouteConfiguration())


class RoutesByName(unittest.TestCase):
    def setUp(self):
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self.apps = {name: stack.enter_context(App(name)) for name in ("one", "two")}
        self.control = stack.enter_context(
            FakeControl(stack.enter_context(temp_folder()), self.script))
        self.sidecar = Sidecar(self.control, "client", "client", outbound=(TARGET,),
                               options=("--on-demand-timeout", "1s"))
        stack.enter_context(self.sidecar.start(ready=False).program)
        self.sidecar.program.wait_for_output("listener=outbound")
        self.connection = stack.enter_context(contextlib.closing(self.sidecar.connect(TARGET)))

    def script(self, stream, request):
        if KEY in request.resource_names_subscribe:
            stream.send(xds.DESTINATION, [(KEY, self.destination("one", "two"))])

    def destination(self, *names):
        made = to_app(self.apps[names[0]].port, names[0])
        made.route_config_name = ROUTES  # in the place of its own
        for name in names[1:]:
            made.clusters.append(to_app(self.apps[name].port, name).clusters[0])
        return made

    def asked(self):
        """The stream, once it has asked for the routes."""
        stream = self.control.stream()
        wait_for(lambda: any(ROUTES in r.resource_names_subscribe for r in stream.requests
                             if r.type_url == xds.ROUTE), what="the question for the routes")
        return stream

    def expect(self, name):
        status, _, body = ask(self.connection)
        self.assertEqual((status, body["app"] if status == 200 else body), (200, name))

    def send(self, stream, type_url, resource):
        """What the sidecar says to it: empty where it took it."""
        return stream.answer(stream.send(type_url, [resource])).error_detail.message

    def test_without_its_routes_nothing_is_served_and_each_version_of_them_is_swapped_in(self):
        self.assertEqual(ask(self.connection)[0], 503)
        stream = self.asked()
        self.assertEqual(self.send(stream, xds.ROUTE, (ROUTES, routes("one"))), "")
        self.expect("one")
        self.assertEqual(self.send(stream, xds.ROUTE, (ROUTES, routes("two"))), "")
        self.expect("two")

    def test_routes_that_do_not_fit_are_refused_and_the_last_good_serve(self):
        self.assertEqual(ask(self.connection)[0], 503)
        stream = self.asked()
        self.assertEqual(self.send(stream, xds.ROUTE, (ROUTES, routes("one"))), "")
        self.assertIn("'three'", self.send(stream, xds.ROUTE, (ROUTES, routes("three"))))
        self.expect("one")

    def test_a_destination_waits_for_the_routes_that_fit_it(self):
        """A server sends routes last: until they come the configuration before serves."""
        self.assertEqual(ask(self.connection)[0], 503)
        stream = self.asked()
        self.send(stream, xds.ROUTE, (ROUTES, routes("two")))
        self.expect("two")
        self.assertEqual(self.send(stream, xds.DESTINATION, (KEY, self.destination("one"))), "")
        self.expect("two")
        self.assertEqual(self.send(stream, xds.ROUTE, (ROUTES, routes("one"))), "")
        self.expect("one")


if __name__ == "__main__":
    unittest.main()
