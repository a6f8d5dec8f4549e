# swarmd as a container:
#
#   docker build -t swarmd .
#   docker run --rm -v swarmd-state:/var/lib/swarmd -p 127.0.0.1:7421:7421 swarmd
#   docker exec CONTAINER cat /var/lib/swarmd/token      # what callers show
#
# Tasks of the local gateway run inside of it: put what they need into an image made FROM this one.

FROM python:3.11-slim-bookworm AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY protos protos
COPY src src
RUN python -m venv /opt/swarmd \
    && /opt/swarmd/bin/pip install --no-cache-dir --disable-pip-version-check '.[otel]'

FROM python:3.11-slim-bookworm
# tini: tasks leave orphans behind, and process 1 has to bury them.
RUN apt-get update \
    && apt-get install -y --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 7421 swarmd \
    && useradd --uid 7421 --gid 7421 --create-home --shell /bin/sh swarmd \
    && install -d -o swarmd -g swarmd -m 0700 /var/lib/swarmd /run/swarmd
COPY --from=build /opt/swarmd /opt/swarmd
ENV PATH=/opt/swarmd/bin:$PATH \
    SWARMD_STATE_DIR=/var/lib/swarmd \
    SWARMD_LISTEN=unix:/run/swarmd/swarmd.sock,0.0.0.0:7421 \
    SWARMD_ADDRESS=unix:/run/swarmd/swarmd.sock
USER swarmd
WORKDIR /home/swarmd
VOLUME /var/lib/swarmd
EXPOSE 7421
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["swarmd", "health"]
ENTRYPOINT ["tini", "--", "swarmd"]
CMD ["serve"]
