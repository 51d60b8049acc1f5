#!/usr/bin/env bash
# Everything that needs a GPU, in one command and within ten minutes on one H100, the start included: the tests marked
# gpu, those of the Triton kernels among them, then bench/gpu.py, which gets all arguments. Figures, log and the tests'
# results are written to --save FOLDER (bench/results) as they come. Without a GPU it says so, runs the interpreted tests
# and the benchmark's tiny mode, and exits with 0 if they pass.
# PYTHON is the interpreter to use; packages that it lacks are installed by pip from the folder WHEELS, if that is set.
set -euo pipefail
limit=575 tests_limit=220 # seconds since the start, seconds of the tests
cd "$(dirname "$0")/.."
export PYTHONPATH=.${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}

save=bench/results before=
for argument in "$@"; do
    case "$before $argument" in
        *" --save="*) save=${argument#--save=} ;;
        "--save "*) save=$argument ;;
    esac
    before=$argument
done

lacking=$("$python" - <<'END'
import importlib.util
wanted = ("torch", "triton", "numpy", "pydantic", "msgspec", "safetensors", "xxhash")
wanted += ("pytest", "hypothesis", "pytest_timeout")
print(*(name.replace("_", "-") for name in wanted if importlib.util.find_spec(name) is None))
END
)
if [ -n "$lacking" ] && [ -n "${WHEELS:-}" ]; then
    echo "gpu.sh: $python lacks $lacking; installing."
    # shellcheck disable=SC2086
    timeout 90 "$python" -m pip install --quiet --no-index --find-links "$WHEELS" $lacking || true # said below
fi
device=$("$python" - <<'END'
import sys
sys.path.insert(0, "bench")
try:
    import gpu, gpu_training, hypothesis, model.attention.triton.launch, pytest, pytest_timeout, torch
except ImportError as error:
    sys.exit(f"gpu.sh: {sys.executable} cannot import what the tests and the benchmark want: {error}. Install it, or "
             "give a folder with wheels of it and of what it needs as WHEELS.")
print("cuda" if torch.cuda.is_available() else "cpu")
END
)

# The kernels' tests use no fixture of conftest.py; without it they need neither Kafka's client nor the store. Warnings of
# the versions and plugins that are installed here are not errors: pytest-benchmark's would end a parallel run at once.
tests=("$python" -m pytest --noconftest -p no:cacheprovider -p no:benchmark -W default)
if [ "$device" = cpu ]; then
    echo "gpu.sh: PyTorch finds no CUDA device here, so the kernels are interpreted on the CPU and nothing is measured."
    "${tests[@]}" -q tests/model/attention/triton/test_dispatch.py
    "$python" bench/gpu.py --tiny "$@"
    exit 0
fi

measure() {
    local failed=0 workers
    tests+=(-v -o timeout=120 --junitxml "$save/gpu_tests.xml")
    if "$python" -c 'import xdist' 2>/dev/null; then # most of the tests' time is Triton's compiler
        workers=$(nproc)
        tests+=(-n "$((workers < 12 ? workers : 12))" --dist worksteal)
    fi
    OMP_NUM_THREADS=1 timeout --signal INT --kill-after 15 "$tests_limit" \
        "${tests[@]}" -m gpu tests/model/attention/triton tests/model/optim/test_embedding_table.py tests/model/evaluation/test_metrics.py || failed=$?
    timeout --kill-after 5 "$((limit - SECONDS))" \
        "$python" bench/gpu.py --seconds "$((limit - 15 - SECONDS))" "$@" || failed=$?
    [ "$failed" = 0 ] || echo "gpu.sh: something above failed (exit $failed)."
    return "$failed"
}
mkdir -p "$save"
measure "$@" 2>&1 | tee "$save/gpu.log"
