# spanledger's commands, for a ClickHouse elsewhere (SPANLEDGER_URL). `docker run spanledger --help` lists them.
FROM python:3.13.16-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md CHANGELOG.md LICENSE ./
COPY pricing pricing
COPY instrumentation instrumentation
COPY exporter exporter
COPY service service
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.13.16-slim-bookworm
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir "$(echo /wheels/spanledger-*.whl)[service]" \
    && useradd --system --uid 10002 --home-dir /var/lib/spanledger spanledger \
    && install --directory --mode 0700 --owner spanledger --group spanledger /var/lib/spanledger
USER spanledger
ENV SPANLEDGER_HOME=/var/lib/spanledger
VOLUME /var/lib/spanledger
EXPOSE 14317 14318
ENTRYPOINT ["spanledger"]
CMD ["--help"]
