# docker build -t discoverd .
#
# PYTHON_IMAGE: any image with Python 3.11 or later and pip, such as a mirror's.
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
# Another package index, where the public one is out of reach: --build-arg PIP_INDEX_URL=...
ARG PIP_INDEX_URL
COPY requirements.lock requirements-image.lock /
# --copies: the interpreter becomes a file of its own, so that it can be given rights of its own below.
# What it is built with stays behind, in /opt/tools.
RUN python -m venv --copies --without-pip /opt/discoverd \
 && python -m venv --without-pip /opt/tools \
 && pip --disable-pip-version-check --python /opt/discoverd/bin/python install --quiet --no-cache-dir \
      --require-hashes --requirement /requirements.lock \
 && pip --disable-pip-version-check --python /opt/tools/bin/python install --quiet --no-cache-dir \
      --require-hashes --requirement /requirements-image.lock
COPY pyproject.toml README.md LICENSE /src/
COPY docs/discoverd.1 /src/docs/
COPY discoverd /src/discoverd
# A wheel, as everybody else installs it; and of what there is then, a bill of materials (CycloneDX)
RUN cd /src && /opt/tools/bin/python -c 'from hatchling.build import build_wheel; build_wheel("/")' \
 && pip --disable-pip-version-check --python /opt/discoverd/bin/python install --quiet --no-cache-dir \
      --no-index --no-deps /*.whl \
 && /opt/discoverd/bin/python -m compileall -q /opt/discoverd/lib \
 && version=$(/opt/discoverd/bin/python -c 'import importlib.metadata as m; print(m.version("discoverd"))') \
 && sed "s/^dynamic = .*/version = \"$version\"/" pyproject.toml >/opt/tools/pyproject.toml \
 && /opt/tools/bin/cyclonedx-py environment --output-reproducible --pyproject /opt/tools/pyproject.toml \
      --output-file /opt/discoverd/sbom.json /opt/discoverd/bin/python

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="discoverd" \
      org.opencontainers.image.description="DNS-based service discovery for containers" \
      org.opencontainers.image.licenses="Apache-2.0" \
      discoverd.sbom="/opt/discoverd/sbom.json"
COPY --from=build /opt/discoverd /opt/discoverd
# Images of Python come without byte code, and a user that may write nothing would compile half of the standard
# library at every start: seconds, instead of a third of one. All modules once, as root: what they import is kept.
RUN /opt/discoverd/bin/python -c "import importlib, pkgutil, discoverd; \
      [importlib.import_module(each.name) for each in pkgutil.walk_packages(discoverd.__path__, 'discoverd.') \
       if not each.name.endswith('__main__')]"
# Two rights that the interpreter may make use of (capabilities(7), version 2, not effective by themselves):
# bit 10 to bind port 53 where the engine keeps it for root, bit 6 to join the group of Docker's socket,
# which is another one on every host. discoverd/privileges.py says the rest. Neither is needed to start.
RUN python -c "import os, struct; os.setxattr('/opt/discoverd/bin/python', 'security.capability', \
      struct.pack('<5I', 0x02000000, 1 << 6 | 1 << 10, 0, 0, 0))" \
 && echo 'discoverd:x:65532:65532:discoverd:/var/lib/discoverd:/bin/false' >>/etc/passwd \
 && echo 'discoverd:x:65532:' >>/etc/group \
 && mkdir -p /var/lib/discoverd \
 && chown 65532:65532 /var/lib/discoverd

VOLUME /var/lib/discoverd
USER 65532:65532
ENV PATH=/opt/discoverd/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DISCOVERD_LISTEN=0.0.0.0:53 \
    DISCOVERD_HTTP=0.0.0.0:8053 \
    DISCOVERD_STATE_DIR=/var/lib/discoverd
EXPOSE 53/udp 53/tcp 8053/tcp
# Alive over HTTP, and answering over DNS: any reply to "version.bind. CH TXT" will do
HEALTHCHECK --interval=5s --timeout=5s --start-period=10s --retries=3 CMD ["python", "-c", "\
import socket, urllib.request;\
urllib.request.urlopen('http://127.0.0.1:8053/healthz', timeout=2);\
dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);\
dns.settimeout(2);\
dns.connect(('127.0.0.1', 53));\
dns.send(bytes.fromhex('d15c000000010000000000000776657273696f6e0462696e640000100003'));\
dns.recv(512)"]
ENTRYPOINT ["discoverd"]
CMD ["serve"]
