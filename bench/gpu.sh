#!/usr/bin/env bash
# Everything that wants a GPU, in one command and within ten minutes on one H100: the tests marked gpu, those of the
# Triton kernels among them, then bench/gpu.py, whose figures go into bench/results/. Where there is no GPU it says so,
# runs the interpreted tests and the benchmark's tiny mode, and ends well if they do.
# PYTHON chooses the interpreter; packages that it lacks are installed by pip, from the folder WHEELS if one is given.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH=. PYTHONUNBUFFERED=1
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}

lacking=$("$python" - <<'END'
import importlib.util
wanted = ("torch", "triton", "numpy", "pydantic", "safetensors", "xxhash", "pytest", "hypothesis", "pytest_timeout")
print(*(name.replace("_", "-") for name in wanted if importlib.util.find_spec(name) is None))
END
)
if [ -n "$lacking" ]; then
    echo "gpu.sh: $python lacks $lacking; installing."
    "$python" -m pip install --quiet ${WHEELS:+--no-index --find-links "$WHEELS"} $lacking
fi

# The kernels' tests ask for no fixture: without conftest.py they need neither Kafka's client nor the store.
tests=("$python" -m pytest -q --noconftest -p no:cacheprovider)
if ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    echo "gpu.sh: PyTorch finds no CUDA device here, so the kernels are interpreted on the CPU and nothing is measured."
    "${tests[@]}" tests/model/test_kernels.py
    "$python" bench/gpu.py --tiny
    exit 0
fi

started=$SECONDS
parallel=()
if "$python" -c 'import xdist' 2>/dev/null; then parallel=(-n 6); fi  # most of the tests' time is Triton's compiler
failed=0
timeout 270 "${tests[@]}" "${parallel[@]}" -m gpu tests/model/kernels tests/model/test_table.py \
    tests/model/test_metrics.py || failed=$?
left=$((570 - (SECONDS - started)))
timeout "$left" "$python" bench/gpu.py --minutes "$(((left - 60) / 60))" "$@" || failed=$?
[ "$failed" = 0 ] || echo "gpu.sh: something above failed (exit $failed)."
exit "$failed"
