# hstu-stream as an image, with the extras that it is built for:
#   docker build .                                      worker, topics, replay into Kafka: a slim image
#   docker build --build-arg EXTRAS=train,serve .       trainer and server as well
# PyTorch's default wheels for Linux bring CUDA with them. For an image without it, build with
#   --build-arg PIP_EXTRA_INDEX_URL=<PyTorch's index of CPU wheels>
FROM python:3.11-slim

ARG EXTRAS=""
ARG PIP_EXTRA_INDEX_URL=""
ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1

WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY stream stream
COPY model model
COPY sim sim
RUN PIP_EXTRA_INDEX_URL="$PIP_EXTRA_INDEX_URL" pip install --constraint constraints.txt ".${EXTRAS:+[$EXTRAS]}" \
    && rm -rf /build

# A new volume on /data takes over its owner, so that nothing needs to run as root. Code compiled by Numba lies there as
# well: a new container does not compile it again.
RUN useradd --uid 10001 --create-home hstu && install -d -o hstu -g hstu /data
USER hstu
WORKDIR /data
ENV HSTU_DATA_DIR=/data \
    NUMBA_CACHE_DIR=/data/numba
ENTRYPOINT ["hstu"]
CMD ["--help"]
