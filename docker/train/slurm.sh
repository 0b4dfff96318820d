#!/bin/bash
# A training on two machines with eight GPUs each:
#     sbatch docker/train/slurm.sh ytvis2019_r50 /shared/runs/mine --set schedule.precision=bfloat16
# The folder must be one that all machines share.
#SBATCH --job-name=visolo
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=2-00:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
recipe=$1 folder=$2
shift 2
meeting=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# --resume begins where there is no checkpoint, and goes on where there is one: after a failure of a
# process (--max-restarts), and when Slurm puts the job into the queue again (--requeue).
srun torchrun --nnodes "$SLURM_NNODES" --nproc-per-node "${SLURM_GPUS_ON_NODE:-8}" \
    --max-restarts 5 --rdzv-backend c10d --rdzv-endpoint "$meeting:29400" --rdzv-id "$SLURM_JOB_ID" \
    --no-python visolo train "$recipe" -o "$folder" --resume "$@"
