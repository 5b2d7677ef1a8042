"""Command lines for every component, good and bad, and where we differ from TorchX on purpose."""

from __future__ import annotations

from typing import Final


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().splitlines()]


#: TorchX makes an app of each.
GOOD: Final = _lines(r"""
    dist.ddp --script main.py
    dist.ddp -j 1x2 --script train.py
    dist.ddp -j 2x1 --script train.py
    dist.ddp -j2x1 --script a/b/train.py -- --lr 0.1
    dist.ddp -j=2x1 --script=train.py
    dist.ddp --j 2x1 --m my.pkg.train
    dist.ddp -m my.pkg.train -j 4
    dist.ddp -m my.pkg.train -j 1:3x2
    dist.ddp -m a -j 2x1 x --script q
    dist.ddp --script main.py 'a b' '$HOME' "it's" '${app_id}' '' '*'
    dist.ddp --script 'my script.py' -- --x=1 -- y
    dist.ddp --script main.py --name exp/run
    dist.ddp --script main.py --name exp/
    dist.ddp --script main.py --name /run
    dist.ddp --script main.py --name run
    dist.ddp --script main.py --name ''
    dist.ddp --script main.py --name a/b/c
    dist.ddp --script main.py --image my/image:1
    dist.ddp --script main.py --cpu 4 --gpu 2 --memMB 4096
    dist.ddp --script main.py --cpu 0 --gpu 0 --memMB 0
    dist.ddp --script main.py -h gpu.small
    dist.ddp --script main.py -h gpu.small -j 2
    dist.ddp --script main.py --h cpu.nano --cpu 7
    dist.ddp --script main.py -h GPU.Small
    dist.ddp --script main.py -h NULL
    dist.ddp --script main.py -h ''
    dist.ddp --script main.py --env A=1
    dist.ddp --script main.py --env A=1,B=2
    dist.ddp --script main.py --env 'A=1;B=2'
    dist.ddp --script main.py --env 'A=1,2,B=3'
    dist.ddp --script main.py --env "A='x=y,z',B=2"
    dist.ddp --script main.py --env 'A="x=y;z"'
    dist.ddp --script main.py --env "A=''"
    dist.ddp --script main.py --env ''
    dist.ddp --script main.py --env LOGLEVEL=INFO,TORCHX_TRACKING_RUN_NAME=mine
    dist.ddp --script main.py --metadata k=v,l=w
    dist.ddp --script main.py --max_retries 3
    dist.ddp --script main.py --max_r 3
    dist.ddp --script main.py -j 2x2 --rdzv_port 1234
    dist.ddp --script main.py -j 2x2 --rdzv_backend static
    dist.ddp --script main.py -j 2x2 --rdzv_backend etcd-v2
    dist.ddp --script main.py -j 2x2 --rdzv_conf join_timeout=600,close_timeout=600
    dist.ddp --script main.py --mounts type=bind,src=/a,dst=/b
    dist.ddp --script main.py --mounts type=bind,source=/a,target=/b,readonly
    dist.ddp --script main.py --mounts type=bind,src=~/a,dst=/b
    dist.ddp --script main.py --mounts type=volume,src=v,dst=/w,type=device,src=/d
    dist.ddp --script main.py --mounts 'type=device, src=/d, dst=/e, perm=rw'
    dist.ddp --script main.py --mounts ''
    dist.ddp --script main.py --debug True
    dist.ddp --script main.py --debug=true
    dist.ddp --script main.py --debug False
    dist.ddp --script main.py --tee 0
    dist.torchrun --script main.py
    dist.torchrun -j 2x4 -m my.pkg.train -- --epochs 3
    dist.torchrun -j 2:5x8 --script main.py
    dist.torchrun -j 4 --script main.py
    dist.torchrun -j 4 -h gpu.medium --script main.py
    dist.torchrun -j 2x3 -h gpu.medium --script main.py
    dist.torchrun -j 1:2x3 -h cpu.small --script main.py
    dist.torchrun --script main.py --debug True --env NCCL_DESYNC_DEBUG=0,A=1
    dist.torchrun --script main.py --cpu 3 --rdzv_backend static --tee 1 --max_retries 2
    dist.spmd --script main.py
    dist.spmd -m my.pkg.train -j 2
    dist.spmd -m my.pkg.train -j 2x4 -h gpu.xlarge -- --lr 1
    dist.spmd -m my.pkg.train -h gpu.large -j 1
    dist.spmd -m my.pkg.train -h cpu.medium -j 3x2
    dist.spmd --script a.py --name e/r --env A=1 --metadata k=v --max_retries 1 --debug True
    dist.spmd --script a.py --image i --mounts type=bind,src=/a,dst=/b -- --lr 1
    utils.echo
    utils.echo --msg hi
    utils.echo --msg=
    utils.echo --msg 'two words' --image busybox --num_replicas 3
    utils.echo --num 2
    utils.touch --file /tmp/x
    utils.touch --file=/tmp/x --image busybox
    utils.sh
    utils.sh ls -l
    utils.sh -- echo '$HOME' 'a b' '' '${replica_id}'
    utils.sh --image busybox --num_replicas 2 --cpu 2 --gpu 1 --memMB 64 echo hi
    utils.sh -h cpu.nano --env A=1,B=2 --max_retries 2 echo hi
    utils.sh --env LOGLEVEL=DEBUG env
    utils.sh --mounts type=volume,src=v,dst=/w,readonly ls /w
    utils.sh --entrypoint bash -- -c 'echo hi'
    utils.sh echo -n --image x
    utils.python -m my.mod
    utils.python --m my.mod -- --args to --main
    utils.python -c 'print(1)'
    utils.python --script main.py a b
    utils.python --script main.py --name me --cpu 3 --gpu 1 --memMB 10 --num_replicas 2
    utils.python --script main.py -h gpu.small --image i
    utils.python --script main.py --mounts type=bind,src=/a,dst=/b
    utils.binary --entrypoint /bin/ls
    utils.binary --entrypoint ls -- -l /
    utils.binary --entrypoint ls --name me --num_replicas 2 --cpu 3 --gpu 1 --memMB 10
    utils.binary --entrypoint ls -h cpu.xlarge
    utils.copy --src s3://b/a --dst file:///b
    utils.copy --src a --dst b --image i --mounts type=bind,src=/a,dst=/b
    utils.booth --x1 1 --x2 2.5
    utils.booth --x1=-1 --x2 1e3 --trial_idx 3 --tracker_base s3://b --image i
""")

#: TorchX refuses each.
BAD: Final = _lines(r"""
    dist.ddp
    dist.ddp main.py
    dist.ddp --script a.py -m a
    dist.ddp --script ''
    dist.ddp -m ''
    dist.ddp --script a.py -m ''
    dist.ddp --script
    dist.ddp --script a.py -j x
    dist.ddp --script a.py -j 2x
    dist.ddp --script a.py -j 1x2x3
    dist.ddp --script a.py -j ' 1x2'
    dist.ddp --script a.py -j ''
    dist.ddp --script a.py -j 1:2
    dist.ddp --script a.py -j 1x2 -j 2x1
    dist.ddp --script a.py --cpu two
    dist.ddp --script a.py --cpu 0.5
    dist.ddp --script a.py --memMB 1GB
    dist.ddp --script a.py --env A
    dist.ddp --script a.py --env A=
    dist.ddp --script a.py --env A=1=2
    dist.ddp --script a.py --metadata k
    dist.ddp --script a.py -h gpu.smal
    dist.ddp --script a.py --mounts src=/a,dst=/b
    dist.ddp --script a.py --mounts type=bind,src=/a
    dist.ddp --script a.py --mounts type=bind,dst=/a
    dist.ddp --script a.py --mounts type=tmpfs,dst=/a
    dist.ddp --script a.py --mounts type=device,src=/d,perm=x
    dist.ddp --script a.py --mounts type=bind,src=/a,dst=/b,mode=z
    dist.ddp --scrip a.py --imag
    dist.ddp --rdzv x --script a.py
    dist.ddp --nnodes 2 --script a.py
    dist.torchrun --script a.py -j 2 -h cpu.small
    dist.torchrun --script a.py -m b
    dist.torchrun --script a.py -j 1:2:3x1
    dist.spmd --script a.py -j 1:2x2
    dist.spmd --script a.py -j 2 -h cpu.small
    dist.spmd --script a.py -j 1x2x3
    dist.spmd --script a.py -h nothing.like.it
    dist.spmd --script a.py --cpu 2
    dist.spmd --script a.py --lr 1
    dist.spmd -j 1x1
    utils.echo hi
    utils.echo --msg
    utils.echo --message hi
    utils.echo --num_replicas two
    utils.echo --msg a --msg b
    utils.touch
    utils.touch /tmp/x
    utils.sh --num_replicas
    utils.sh --env A echo
    utils.python
    utils.python -m a -c b
    utils.python -m ''
    utils.python --script a.py --max_retries 1
    utils.binary
    utils.binary ls
    utils.binary --entrypoint ls --image i
    utils.copy --src a
    utils.copy a b
    utils.booth --x1 1
    utils.booth --x1 one --x2 2
    utils.booth --x1 1 --x2 2 --trial_idx 1.5
    utils.nothing --msg hi
    dist.dpp --script a.py
    echo
""")

#: TorchX makes an app of each, and we do not.
STRICTER: Final = {
    "dist.ddp --script a.py --debug yes": "TorchX takes every word but true for False: a silent no",
    "dist.ddp --script a.py --debug 1": "the same",
    "dist.ddp --script a.py --debug ''": "the same",
    "dist.ddp --script a.py --env=A=1 --env=B=2": "one of them would be lost; TorchX's command "
    "line refuses a repeated option too, but only if it is written with a blank",
    "dist.ddp -j 1x2 --j 2x2 --script a.py": "the same",
    "dist.ddp --script a.py --mounts type=bind,src=,dst=/b": "Docker would refuse it later",
    "dist.ddp --script a.py --mounts type=device,src=/d,perm=": "the same",
}

#: TorchX makes another app of each.
OTHERWISE: Final = {
    "dist.ddp --script a.py --mounts type=bind,src=/a,dst=/b,readonly=false": "TorchX mounts it "
    "read-only, whatever the value",
    "dist.ddp --script a.py --mounts type=bind,src=/a,destination=/b,read_only=false": "the same",
}

#: Its command line alone refuses each, for repeated words that are the program's own. Its Python
#: API, which is what an operator stands for, makes an app of them, as we do.
REPEATED_WORDS: Final = _lines(r"""
    utils.sh grep -e a -e b /etc/hosts
    dist.ddp --script a.py -- --data x --data y
    dist.ddp --script main.py -- -j 3 -j 4
""")
