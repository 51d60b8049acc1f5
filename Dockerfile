# hstu-stream as an image. PyTorch's default wheels for Linux bring CUDA with them; for a small image without it, build with
#   --build-arg PIP_EXTRA_INDEX_URL=<PyTorch's index of CPU wheels>
FROM python:3.11-slim

ARG PIP_EXTRA_INDEX_URL=""
ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1

WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY stream stream
COPY model model
COPY sim sim
RUN PIP_EXTRA_INDEX_URL="$PIP_EXTRA_INDEX_URL" pip install --constraint constraints.txt . && rm -rf /build

# A new volume on /data takes over its owner, so that nothing needs to run as root.
RUN useradd --uid 10001 --create-home hstu && install -d -o hstu -g hstu /data
ENV NUMBA_CACHE_DIR=/tmp/numba
USER hstu
WORKDIR /data
ENV HSTU_DATA_DIR=/data
ENTRYPOINT ["hstu"]
CMD ["--help"]
