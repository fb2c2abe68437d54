/**
 * The fastest reader of a tap that there can be in a process: it looks at nothing. What a real guest does on top of it
 * can only be slower, so its rate is an upper bound of any guest's.
 *
 * `tap-reader <drop|bounce|answer> <cpu or -1> <fd>...`: takes frames from each file and drops them, or swaps their MAC
 * addresses and writes them back; as an answer only UDP over IPv4 without options, with IP addresses and ports swapped, too,
 * which leaves checksums right. For each line on stdin it writes one with what it did so far: frames read, written, not written.
 * It ends with its stdin, and with its parent.
 */
export const TAP_READER_SOURCE = `
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

struct queue {
	int fd;
	int bounce, answer;
	unsigned long frames_read, written, failed;
	pthread_t thread;
} __attribute__((aligned(64)));

/* Two values of some bytes, one behind the other. */
static void swap(unsigned char *first, int bytes)
{
	unsigned char kept[6];
	memcpy(kept, first, bytes);
	memcpy(first, first + bytes, bytes);
	memcpy(first + bytes, kept, bytes);
}

static void *serve(void *argument)
{
	struct queue *queue = argument;
	static __thread unsigned char frame[65536 + 64];
	for (;;) {
		ssize_t length = read(queue->fd, frame, sizeof(frame));
		if (length < 0 && errno == EINTR)
			continue;
		if (length < 0)
			return NULL;
		__atomic_store_n(&queue->frames_read, queue->frames_read + 1, __ATOMIC_RELAXED);
		if (!queue->bounce)
			continue;
		if (queue->answer) {
			if (length < 42 || frame[12] != 8 || frame[13] != 0 || frame[14] != 0x45 || frame[23] != 17)
				continue;
			swap(frame + 26, 4);
			swap(frame + 34, 2);
		}
		swap(frame, 6);
		unsigned long *count = write(queue->fd, frame, length) == length ? &queue->written : &queue->failed;
		__atomic_store_n(count, *count + 1, __ATOMIC_RELAXED);
	}
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	int cpu = atoi(argv[2]), queues = argc - 3;
	struct queue *all = calloc(queues, sizeof(*all));
	if (cpu >= 0) {
		cpu_set_t set;
		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
		sched_setaffinity(0, sizeof(set), &set);
	}
	for (int i = 0; i < queues; i++) {
		all[i].fd = atoi(argv[i + 3]);
		all[i].answer = strcmp(argv[1], "answer") == 0;
		all[i].bounce = all[i].answer || strcmp(argv[1], "bounce") == 0;
		fcntl(all[i].fd, F_SETFL, fcntl(all[i].fd, F_GETFL) & ~O_NONBLOCK);
		if (pthread_create(&all[i].thread, NULL, serve, &all[i]) != 0)
			return 1;
	}
	char line[16];
	while (fgets(line, sizeof(line), stdin) != NULL) {
		unsigned long frames_read = 0, written = 0, failed = 0;
		for (int i = 0; i < queues; i++) {
			frames_read += __atomic_load_n(&all[i].frames_read, __ATOMIC_RELAXED);
			written += __atomic_load_n(&all[i].written, __ATOMIC_RELAXED);
			failed += __atomic_load_n(&all[i].failed, __ATOMIC_RELAXED);
		}
		printf("%lu %lu %lu\\n", frames_read, written, failed);
		fflush(stdout);
	}
	return 0;
}
`;
