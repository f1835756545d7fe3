#!/usr/bin/env bash
# For a machine with an NVIDIA GPU and little time: the GPU tests and every suite on all four
# backends, smallest first, in under 25 minutes. Run files, plots and logs are left in a folder.
#
#   bash evidence/on_a_gpu.sh [FOLDER [PART...]]
#   parts: look tests quick sweeps agree standard report
#
# PYTHON names the interpreter (default: python3); it needs bench's dependencies, PyTorch with CUDA,
# CuPy, pytest, pytest-benchmark and hypothesis. What a part cannot do is in its log; the next one
# begins all the same.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-gpu-$(date -u +%Y%m%dT%H%M%SZ)}
shift || true
parts=${*:-look tests quick sweeps agree standard report}
python=${PYTHON:-python3}
mkdir -p "$out"
export PYTHONUNBUFFERED=1

# step NAME SECONDS COMMAND...: a log of its own, a time limit, a line about how it ended.
step() {
    local name=$1 limit=$2 begin=$SECONDS
    shift 2
    timeout --signal="${signal:-INT}" --kill-after=20 "$limit" "$@" >"$out/$name.log" 2>&1
    local code=$?
    printf '%-24s exit %-3s %4ss\n' "$name" "$code" "$((SECONDS - begin))" | tee -a "$out/steps.txt"
}

# suite NAME SECONDS OPTIONS...: a run file and its table.
suite() {
    local name=$1 limit=$2
    shift 2
    # A script in the background ignores INT, and so does whatever it starts; bench ends alike.
    signal=TERM step "$name" "$limit" "$python" -m bench run --quiet --output "$out/$name.jsonl" "$@"
}

look() {
    step list 90 "$python" -m bench list # the first import reads gigabytes from the disk
    step doctor 30 "$python" -m bench doctor
}

tests() {
    step tests 280 "$python" -m pytest -q -rs -p no:cacheprovider tests/gpu
}

quick() {
    suite quick-transfer 45 --suite transfer --preset quick
    suite quick-matmul 120 --suite matmul --preset quick \
        --dtype float32 --dtype tf32 --dtype float16 --dtype bfloat16 --dtype float64
    suite quick-convolution 100 --suite convolution --preset quick
    suite quick-layers 110 --suite layers --preset quick
    suite quick-passes 110 --suite passes --preset quick
}

sweeps() {
    # The CPU ends at its patience, the GPU where its memory does.
    suite sweep 150 --suite batch-sweep --minutes 2 --only 'resnet50/imagenet,*' \
        --batch 1,4,16,64,256,1024,4096 --backend torch-cpu --backend torch-cuda
    suite latency 100 --suite latency --preset quick --concurrency 1,4 --latency-bound 10ms \
        --backend torch-cpu --backend torch-cuda --only 'resnet50*' --only 'transformer*'
}

agree() {
    step agreement 80 "$python" evidence/gpu_agreement.py
    suite cold 45 --suite matmul --preset quick --cache both --size n=1024,4096
    suite energy 75 --suite matmul --preset quick --blocks 2 --energy --size n=8192 \
        --backend torch-cuda --dtype float32 --dtype tf32 --dtype bfloat16
}

standard() {
    suite transfer 50 --suite transfer --minutes 0.5
    suite matmul 110 --suite matmul --minutes 1.5 --dtype float32 --dtype float16 --dtype bfloat16
    suite convolution 110 --suite convolution --minutes 1.5 --only '*resnet50*' \
        --dtype float32 --dtype tf32
}

report() {
    local files=()
    for file in "$out"/*.jsonl; do
        step "report-$(basename "$file" .jsonl)" 60 "$python" -m bench report "$file"
        step "plots-$(basename "$file" .jsonl)" 90 "$python" -m bench report "$file" --as plots \
            --output "$out/plots-$(basename "$file" .jsonl)"
        step "page-$(basename "$file" .jsonl)" 60 "$python" -m bench report "$file" --as page \
            --output "$out/$(basename "$file" .jsonl).html"
        files+=("$file")
    done
    step libraries 60 "$python" evidence/gpu_libraries.py "${files[@]}"
    tail -n 40 "$out/agreement.log" "$out/libraries.log" 2>/dev/null
}

for part in $parts; do
    $part
done
printf 'all in %ss: %s\n' "$SECONDS" "$out"
