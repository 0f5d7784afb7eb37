#!/bin/sh
# record.sh OUT - records what a real Docker Engine says of the containers below, one JSON file each, into folder OUT.
# Needs DOCKER_HOST=unix://..., the compose plugin, an image "bb" with busybox, and an engine without containers of its own.
# Paths of the machine are cut out; everything else is as the engine sent it (raw HTTP: the CLI adds fields of its own).
set -eu
out=${1:?a folder for the recordings}; mkdir -p "$out"; out=$(cd "$out" && pwd)
api() { curl -s --fail --unix-socket "${DOCKER_HOST#unix://}" "http://docker$1"; }
clean() { python3 -c '
import json, sys
PATHS = {"ResolvConfPath", "HostnamePath", "HostsPath", "LogPath", "GraphDriver", "SandboxKey", "Mounts", "MaskedPaths", "ReadonlyPaths"}
def cut(value):
    if isinstance(value, dict):
        return {k: cut(v) for k, v in value.items() if k not in PATHS and "working_dir" not in k and "config_files" not in k}
    return [cut(v) for v in value] if isinstance(value, list) else value
json.dump(cut(json.load(sys.stdin)), sys.stdout, indent=1); print()'; }
save() { api "/containers/$1/json" | clean >"$out/${2:-$1}.json"; }
run() { docker run -d "$@" >/dev/null; }
wait_health() { until [ "$(docker inspect -f '{{.State.Health.Status}}' "$1")" = "$2" ]; do sleep 0.2; done; }

cd "$(mktemp -d)"
cat >compose.yml <<'Y'
name: shop
services:
  web:
    image: bb
    command: sleep 10000
    stop_signal: SIGUSR1
    stop_grace_period: 3s
    links: ["db:store"]
    ports: ["8080", "127.0.0.1::9000/udp"]
    expose: ["5432"]
    labels: {discoverd.ports: "http=8080,metrics=9090/tcp", discoverd.tags: "blue, v2"}
    networks: {default: {aliases: [www]}, edge: {}}
  db:
    image: bb
    container_name: shopdb
    hostname: dbhost
    command: sleep 10000
    healthcheck: {test: [CMD, test, -e, /tmp/ok], interval: 1s, retries: 1}
  side:
    image: bb
    command: sleep 10000
    network_mode: service:web
networks: {edge: {}}
Y
docker compose up -d --scale web=2 --quiet-pull >/dev/null 2>&1
docker compose run -d web sleep 1000 >/dev/null 2>&1
save shop-web-1; save shop-web-2; save shop-side-1
wait_health shopdb unhealthy; save shopdb db-unhealthy
docker exec shopdb touch /tmp/ok; wait_health shopdb healthy; save shopdb db-healthy
docker stop -t 0 shopdb >/dev/null; save shopdb db-stopped
save "$(docker ps -q --filter label=com.docker.compose.oneoff=True)" shop-web-run
docker rename shop-web-2 "$(docker ps -q --filter name=shop-web-2)_shop-web-2"; save "$(docker ps -q --filter name=_shop-web-2)" recreating

docker network create --ipv6 --subnet 172.30.9.0/24 --subnet fd00:9::/64 six >/dev/null
docker network create --internal quiet >/dev/null
docker create --name created --network six --network-alias al1 bb sleep 1000 >/dev/null; save created
run --name plain.one --hostname Own.Host --network six --network-alias AL.two --network-alias al1 bb sleep 1000; save plain.one plain
run --name loose -p 8081:81 -p 127.0.0.1:8082:82 --expose 80 bb sleep 1000; save loose bridge
run --name linking --link loose:store bb sleep 1000; save linking
run --name joined --network container:loose bb sleep 1000; save joined
run --name hosted --network host --expose 80 bb sleep 1000; save hosted
run --name alone --network none bb sleep 1000; save alone
run --name starting --health-cmd false --health-interval 60s bb sleep 1000; save starting
run --name halted bb sleep 1000; docker pause halted >/dev/null; save halted paused
run --name looping --restart always bb false
until [ "$(docker inspect -f '{{.State.Restarting}}' looping)" = true ]; do sleep 0.1; done; save looping
run --name registrator -e SERVICE_NAME=api -e SERVICE_80_NAME=api-http -e SERVICE_443_NAME=api-tls -e SERVICE_TAGS=a,b --expose 80 --expose 443 bb sleep 1000; save registrator
run --name labelled -l 'discoverd.name=a,b.c,*.wild,Bad Name!,***' -l discoverd.service=Renamed -l discoverd.scope=zone -l discoverd.port=99/udp \
  -l discoverd.meta.team=core -l discoverd.ttl=7 -l discoverd.weight=heavy -l app=The_App bb sleep 1000; save labelled
api '/containers/json?all=1' | clean >"$out/list.json"
api /networks | clean >"$out/networks.json"

docker compose down -t 0 --remove-orphans >/dev/null 2>&1
docker rm -f $(docker ps -aq) >/dev/null
docker network rm six quiet >/dev/null; docker network prune -f >/dev/null
