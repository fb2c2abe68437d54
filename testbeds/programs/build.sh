#!/bin/sh
# SPDX-License-Identifier: (MIT OR GPL-2.0-only)
#
# Builds every *.bpf.c of this folder and of unsafe into the .o beside it (xdp1.bpf.c -> xdp1.o).
# The objects are checked in, so this is needed only after a source has changed.
# Needs: clang (14 made the committed ones; another version gives other bytes), llvm-strip, and the
# headers of libbpf-dev and linux-libc-dev. CLANG, LLVM_STRIP and ASM_INCLUDE override what is used.
set -eu
cd "$(dirname "$0")"

clang=${CLANG:-clang}
strip=${LLVM_STRIP:-llvm-strip}
asm_include=${ASM_INCLUDE:-/usr/include/$(uname -m)-linux-gnu}

for folder in . ../unsafe; do
  cd "$folder"
  for source in *.bpf.c; do
    object=${source%.bpf.c}.o
    # The prefix map and compilation dir keep this machine's paths out of BTF line info. glibc's
    # headers ask which ABI it is, and would take bpf alone for a 32-bit one.
    "$clang" -O2 -g -target bpf -mcpu=v3 -Wall -Werror "-D__$(uname -m)__" \
      -fdebug-compilation-dir=. -ffile-prefix-map="$PWD"=. \
      -isystem "$asm_include" -c "$source" -o "$object"
    # DWARF goes, BTF stays.
    "$strip" -g "$object"
    echo "$folder/$object"
  done
done
