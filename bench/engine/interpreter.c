// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The yardstick for executor `interpreter`: a plain, quick interpreter of RFC 9669 in C. Insns are decoded once, each
 * with the address of the code for it (computed goto); each access is compared with the packet, the stack, the context
 * and then the values of maps; a run ends when it has jumped back too often. It takes what bench/engine/c-interpreter.ts
 * writes and knows only the helpers and atomics that most rows need; of others it says so by exit status 2.
 *
 *   interpreter FILE check      verdict of the first frame, and FNV-1a of its bytes behind
 *   interpreter FILE ROUNDS     the median of so many rounds of 0.4 ms, in ns for one packet
 *
 * FILE, u32 little-endian: insns, maps, frames, bytes of a frame, slots; the insns; of each map handle, kind (0 array,
 * 1 per CPU, 2 hash), bytes of key and value, entries; the frames.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t s32;
typedef int64_t s64;

enum { SLOT = 4224, DATA = 64 + 256, STACK = 512, BACK_JUMPS = 1 << 24, MAX_MAPS = 16, UNSUPPORTED = 2 };

struct insn {
	u8 code, dst : 4, src : 4;
	int16_t off;
	s32 imm;
};

struct op {
	const void *code;
	u64 imm;
	s32 off;
	u8 dst, src;
};

struct map {
	u32 kind, key_size, value_size, entries;
	u32 stride, used, mask;
	u8 *values;   /* hash: elements of next (u32 index + 1), hash, key, value */
	u32 *buckets;
};

static u8 *arena, *arena_end;
static struct map *maps[MAX_MAPS];
static u32 handles[MAX_MAPS], map_count;
static u8 *stack;

/* Memory below 4 GiB, as the context's fields are 32 bits wide. */
static void *place(size_t size)
{
	u8 *at = arena;
	arena += (size + 15) & ~(size_t)15;
	if (arena > arena_end)
		exit(3);
	return at;
}

static u32 hash_key(const u8 *key, u32 size)
{
	u32 h = 0x9e3779b9;
	for (u32 i = 0; i + 4 <= size; i += 4) {
		u32 w;
		memcpy(&w, key + i, 4);
		h = (h ^ w) * 0x85ebca6b;
		h ^= h >> 15;
	}
	for (u32 i = size & ~3u; i < size; i++)
		h = (h ^ key[i]) * 0x85ebca6b;
	return h ^ h >> 13;
}

static u8 *map_lookup(struct map *map, const u8 *key)
{
	if (map->kind != 2) {
		u32 index;
		memcpy(&index, key, 4);
		return index < map->entries ? map->values + (size_t)index * map->stride : NULL;
	}
	u32 hash = hash_key(key, map->key_size);
	for (u32 at = map->buckets[hash & map->mask]; at != 0;) {
		u8 *element = map->values + (size_t)(at - 1) * map->stride;
		if (((u32 *)element)[1] == hash && memcmp(element + 8, key, map->key_size) == 0)
			return element + 8 + ((map->key_size + 7) & ~7u);
		at = *(u32 *)element;
	}
	return NULL;
}

static s64 map_update(struct map *map, const u8 *key, const u8 *value)
{
	u8 *found = map_lookup(map, key);
	if (found == NULL) {
		if (map->kind != 2 || map->used == map->entries)
			return -7;
		u32 hash = hash_key(key, map->key_size), *bucket = &map->buckets[hash & map->mask];
		u8 *element = map->values + (size_t)map->used * map->stride;
		((u32 *)element)[0] = *bucket;
		((u32 *)element)[1] = hash;
		memcpy(element + 8, key, map->key_size);
		*bucket = ++map->used;
		found = element + 8 + ((map->key_size + 7) & ~7u);
	}
	memcpy(found, value, map->value_size);
	return 0;
}

static int in_map_value(u64 at, u32 size)
{
	for (u32 i = 0; i < map_count; i++) {
		struct map *map = maps[i];
		u64 offset = at - (u64)map->values, skip = map->kind == 2 ? 8 + ((map->key_size + 7) & ~7u) : 0;
		if (offset >= (u64)map->stride * map->entries)
			continue;
		u64 within = offset % map->stride;
		return within >= skip && within + size <= skip + map->value_size;
	}
	return 0;
}

/* Runs a program on the frame at ctx; -1 is a fault. With ctx NULL it leaves the places of code in `places`. */
static s64 run(const struct op *ops, u8 *ctx, const void **places)
{
#define ALU(op) \
	[0x07 | op] = &&alu64k_##op, [0x0f | op] = &&alu64x_##op, [0x04 | op] = &&alu32k_##op, [0x0c | op] = &&alu32x_##op
#define JUMP(op) \
	[0x05 | op] = &&jmp64k_##op, [0x0d | op] = &&jmp64x_##op, [0x06 | op] = &&jmp32k_##op, [0x0e | op] = &&jmp32x_##op
	static const void *const table[256] = {
		ALU(0x00), ALU(0x10), ALU(0x20), ALU(0x30), ALU(0x40), ALU(0x50), ALU(0x60), ALU(0x70), ALU(0x90), ALU(0xa0),
		ALU(0xb0), ALU(0xc0), JUMP(0x10), JUMP(0x20), JUMP(0x30), JUMP(0x40), JUMP(0x50), JUMP(0x60), JUMP(0x70),
		JUMP(0xa0), JUMP(0xb0), JUMP(0xc0), JUMP(0xd0), [0x87] = &&neg64, [0x84] = &&neg32, [0xd4] = &&to_le,
		[0xdc] = &&to_be, [0xd7] = &&swap, [0x05] = &&ja, [0x18] = &&lddw, [0x85] = &&call, [0x95] = &&leave,
		[0x71] = &&ldx1, [0x69] = &&ldx2, [0x61] = &&ldx4, [0x79] = &&ldx8, [0x72] = &&st1, [0x6a] = &&st2,
		[0x62] = &&st4, [0x7a] = &&st8, [0x73] = &&stx1, [0x6b] = &&stx2, [0x63] = &&stx4, [0x7b] = &&stx8,
		[0xdb] = &&add8, [0xc3] = &&add4,
	};
	if (ctx == NULL) {
		memcpy(places, table, sizeof table);
		return 0;
	}
	u64 r[11];
	const struct op *pc = ops;
	u64 packet = ((u32 *)ctx)[0], packet_end = ((u32 *)ctx)[1];
	s32 left = BACK_JUMPS;
	r[1] = (u64)ctx;
	r[10] = (u64)stack + STACK;
#define NEXT goto *(++pc)->code
#define DST r[pc->dst]
#define SRC r[pc->src]
#define INSIDE(at, size, from, to) ((at) >= (from) && (at) <= (to) - (size))
#define CHECK(at, size, write) \
	if (!__builtin_expect(INSIDE(at, size, packet, packet_end), 1) && \
	    !INSIDE(at, size, (u64)stack, (u64)stack + STACK) && \
	    !(!(write) && INSIDE(at, size, (u64)ctx, (u64)ctx + 24)) && !in_map_value(at, size)) \
		return -1;
	goto *pc->code;
#define BINARY(op, e64, e32) \
	alu64k_##op: { u64 a = DST, b = pc->imm; DST = e64; } NEXT; \
	alu64x_##op: { u64 a = DST, b = SRC; DST = e64; } NEXT; \
	alu32k_##op: { u32 a = DST, b = pc->imm; DST = (u32)(e32); } NEXT; \
	alu32x_##op: { u32 a = DST, b = SRC; DST = (u32)(e32); } NEXT;
#define SAME(op, e) BINARY(op, e, e)
	SAME(0x00, a + b)
	SAME(0x10, a - b)
	SAME(0x20, a * b)
	SAME(0x30, b ? a / b : 0)
	SAME(0x40, a | b)
	SAME(0x50, a & b)
	BINARY(0x60, a << (b & 63), a << (b & 31))
	BINARY(0x70, a >> (b & 63), a >> (b & 31))
	SAME(0x90, b ? a % b : a)
	SAME(0xa0, a ^ b)
	SAME(0xb0, ((void)a, b))
	BINARY(0xc0, (u64)((s64)a >> (b & 63)), (s32)a >> (b & 31))
neg64:
	DST = -DST;
	NEXT;
neg32:
	DST = (u32)-DST;
	NEXT;
to_le:
	DST = pc->imm == 16 ? (u16)DST : pc->imm == 32 ? (u32)DST : DST;
	NEXT;
to_be:
swap:
	DST = pc->imm == 16 ? __builtin_bswap16(DST) : pc->imm == 32 ? __builtin_bswap32(DST) : __builtin_bswap64(DST);
	NEXT;
#define TAKE \
	do { \
		if (pc->off < 0 && --left < 0) \
			return -1; \
		pc += pc->off; \
	} while (0)
#define COMPARE(op, e64, e32) \
	jmp64k_##op: { u64 a = DST, b = pc->imm; if (e64) TAKE; } NEXT; \
	jmp64x_##op: { u64 a = DST, b = SRC; if (e64) TAKE; } NEXT; \
	jmp32k_##op: { u32 a = DST, b = pc->imm; if (e32) TAKE; } NEXT; \
	jmp32x_##op: { u32 a = DST, b = SRC; if (e32) TAKE; } NEXT;
	COMPARE(0x10, a == b, a == b)
	COMPARE(0x20, a > b, a > b)
	COMPARE(0x30, a >= b, a >= b)
	COMPARE(0x40, a & b, a & b)
	COMPARE(0x50, a != b, a != b)
	COMPARE(0x60, (s64)a > (s64)b, (s32)a > (s32)b)
	COMPARE(0x70, (s64)a >= (s64)b, (s32)a >= (s32)b)
	COMPARE(0xa0, a < b, a < b)
	COMPARE(0xb0, a <= b, a <= b)
	COMPARE(0xc0, (s64)a < (s64)b, (s32)a < (s32)b)
	COMPARE(0xd0, (s64)a <= (s64)b, (s32)a <= (s32)b)
ja:
	TAKE;
	NEXT;
lddw:
	DST = pc->imm;
	pc++;
	NEXT;
#define LOAD(size, type) \
	ldx##size: { u64 at = SRC + (s64)pc->off; CHECK(at, size, 0) DST = *(type *)at; } NEXT;
#define STORE(size, type) \
	st##size: { u64 at = DST + (s64)pc->off; CHECK(at, size, 1) *(type *)at = pc->imm; } NEXT; \
	stx##size: { u64 at = DST + (s64)pc->off; CHECK(at, size, 1) *(type *)at = SRC; } NEXT;
	LOAD(1, u8) LOAD(2, u16) LOAD(4, u32) LOAD(8, u64)
	STORE(1, u8) STORE(2, u16) STORE(4, u32) STORE(8, u64)
add8: { u64 at = DST + (s64)pc->off; CHECK(at, 8, 1) *(u64 *)at += SRC; } NEXT;
add4: { u64 at = DST + (s64)pc->off; CHECK(at, 4, 1) *(u32 *)at += SRC; } NEXT;
call: {
	struct map *map = NULL;
	for (u32 i = 0; i < map_count; i++)
		if (r[1] == (u64)maps[i])
			map = maps[i];
	if (map == NULL)
		return -1;
	CHECK(r[2], map->key_size, 0)
	if (pc->imm == 1) {
		r[0] = (u64)map_lookup(map, (u8 *)r[2]);
	} else {
		CHECK(r[3], map->value_size, 0)
		r[0] = map_update(map, (u8 *)r[2], (u8 *)r[3]);
	}
	NEXT;
}
leave:
	return (u32)r[0];
}

static void read_all(void *into, size_t size, FILE *file)
{
	if (size > 0 && fread(into, size, 1, file) != 1)
		exit(3);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

int main(int argc, char **argv)
{
	FILE *file = argc == 3 ? fopen(argv[1], "rb") : NULL;
	if (file == NULL)
		return 3;
	const size_t arena_bytes = 64 << 20;
	arena = mmap(NULL, arena_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	if (arena == MAP_FAILED)
		return 3;
	arena_end = arena + arena_bytes;
	u32 head[5];
	read_all(head, sizeof head, file);
	u32 insn_count = head[0], frame_count = head[2], frame_bytes = head[3], slots = head[4];
	struct insn *insns = calloc(insn_count, sizeof *insns);
	read_all(insns, insn_count * sizeof *insns, file);
	if (head[1] > MAX_MAPS)
		return UNSUPPORTED;
	for (map_count = 0; map_count < head[1]; map_count++) {
		u32 spec[5];
		read_all(spec, sizeof spec, file);
		struct map *map = place(sizeof *map);
		u32 value = (spec[3] + 7) & ~7u;
		*map = (struct map){ .kind = spec[1], .key_size = spec[2], .value_size = spec[3], .entries = spec[4] };
		map->stride = map->kind == 2 ? 8 + ((map->key_size + 7) & ~7u) + value : value;
		map->values = place((size_t)map->stride * map->entries);
		for (map->mask = 1; map->mask < map->entries; map->mask *= 2)
			;
		map->buckets = place(map->mask * sizeof(u32));
		map->mask--;
		maps[map_count] = map;
		handles[map_count] = spec[0];
	}
	stack = place(STACK);
	u8 *ring = place((size_t)slots * SLOT), *frames = malloc((size_t)frame_count * frame_bytes);
	read_all(frames, (size_t)frame_count * frame_bytes, file);
	for (u32 slot = 0; slot < slots; slot++) {
		u8 *ctx = ring + (size_t)slot * SLOT, *data = ctx + DATA;
		memcpy(data, frames + (size_t)(slot % frame_count) * frame_bytes, frame_bytes);
		((u32 *)ctx)[0] = ((u32 *)ctx)[2] = (u32)(u64)data;
		((u32 *)ctx)[1] = (u32)(u64)data + frame_bytes;
	}

	const void *places[256];
	run(NULL, NULL, places);
	struct op *ops = calloc(insn_count + 1, sizeof *ops);
	for (u32 i = 0; i < insn_count; i++) {
		struct insn in = insns[i];
		u8 kind = in.code & 7;
		ops[i] = (struct op){ places[in.code], (u64)(s64)in.imm, in.off, in.dst, in.src };
		int is_alu = kind == 4 || kind == 7, is_atomic = (in.code & 0xe0) == 0xc0 && kind == 3;
		int known = places[in.code] != NULL && in.dst < 11 && in.src < 11 && !(is_alu && in.off != 0) &&
			    !(is_atomic && in.imm != 0) && !(in.code == 0x85 && (in.src != 0 || in.imm < 1 || in.imm > 2));
		if (in.code == 0x18 && in.src == 1) {
			known = 0;
			for (u32 m = 0; m < map_count; m++)
				if (handles[m] == (u32)in.imm) {
					ops[i].imm = (u64)maps[m];
					known = 1;
				}
		} else if (in.code == 0x18) {
			known = in.src == 0 && i + 1 < insn_count;
			ops[i].imm = (u32)in.imm | (u64)(u32)insns[i + 1].imm << 32;
		}
		if (!known)
			return UNSUPPORTED;
		if (in.code == 0x18)
			i++;
	}

	s64 verdict = run(ops, ring, NULL);
	if (verdict < 0)
		return 4;
	if (strcmp(argv[2], "check") == 0) {
		u32 hash = 0x811c9dc5;
		for (u32 i = 0; i < frame_bytes; i++)
			hash = (hash ^ ring[DATA + i]) * 0x01000193;
		printf("%u %u\n", (u32)verdict, hash);
		return 0;
	}
	int rounds = atoi(argv[2]);
	double *ns = calloc(rounds, sizeof *ns);
	u32 packets = slots, slot = 0;
	for (int round = -3; round < rounds; round++) {
		double start = now();
		for (u32 i = 0; i < packets; i++) {
			u8 *ctx = ring + (size_t)slot * SLOT;
			((u32 *)ctx)[8] = (u32)run(ops, ctx, NULL);
			slot = slot + 1 == slots ? 0 : slot + 1;
		}
		double each = (now() - start) / packets;
		if (round >= 0)
			ns[round] = each;
		packets = 400000 / each < 64 ? 64 : 400000 / each;
	}
	qsort(ns, rounds, sizeof *ns, compare);
	printf("%f\n", ns[rounds / 2]);
	return 0;
}
