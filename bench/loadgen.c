/* A DNS load generator that is faster than what it measures, and checks every answer.
 *
 *   loadgen [options] ADDRESS PORT QUESTIONS
 *
 * QUESTIONS is a file of records: length (2 bytes, network order), expected rcode (1), expected
 * number of answers (1), then the question as on the wire (name, type, class).
 *
 * Closed loop (the default): --in-flight questions are on their way over --sockets sockets; each
 * answer is replaced by the next question. That finds the throughput.
 * Open loop (--rate): questions leave on a fixed schedule whatever comes back, and latency counts
 * from when a question was *due*, so a server that stalls cannot hide it.
 *
 * One JSON object on stdout. Exit status 0 when it ran, whatever the answers were: they are counted
 * ("wrong", "lost"), and judged by the caller. 2 for a mistake in usage or set-up.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    NXDOMAIN = 3,            /* RFC 1035 section 4.1.1 */
    BATCH = 64,              /* datagrams a system call */
    TOGETHER = 16,           /* questions that are due at a time, for one socket */
    MAX_QUESTION = 259,      /* a name of 255 octets, type and class */
    MAX_QUERY = 12 + MAX_QUESTION + 23,
    MAX_REPLY = 4096,
    MAX_SOCKETS = 1024,
    STREAM_BUFFER = 1 << 17, /* holds more than one TCP message of 65,535 octets */
};
static const uint64_t SECOND = 1000000000ull;
/* ns without an answer, after which a question counts as lost */
static const uint64_t LOST_CLOSED = 300000000ull; /* in closed loop, where it is asked anew */

struct question {
    uint16_t length;
    uint8_t rcode, answers;
    uint8_t wire[MAX_QUESTION];
};

/* One question on its way. It is remembered as sent: the answer must echo it to the letter. */
struct slot {
    bool pending;
    bool counted;             /* asked while measuring, not in the warm-up */
    uint16_t id;
    uint16_t length;          /* of the query */
    uint16_t question_length;
    uint8_t rcode, answers;
    uint64_t due;
    uint8_t query[2 + MAX_QUERY]; /* the first two octets are TCP's length prefix */
};

struct client {
    int fd;
    struct slot *slots;
    uint32_t next_slot;
    struct sockaddr_in source;
    /* TCP only */
    uint8_t *in;
    size_t in_length;
    uint8_t *out;
    size_t out_length;
    bool want_write;
};

static struct {
    const char *questions_file;
    struct sockaddr_in server;
    struct in_addr source; /* first client's address; 0 for the system's choice */
    int sources;           /* how many source addresses, one /24 apart */
    int sockets, in_flight;
    double seconds, warm_up, rate;
    double patience;       /* at a fixed rate: seconds until a question counts as lost */
    int cookies;           /* clients that have one; 0: every question comes with a new one */
    bool edns, cookie, mixed_case, tcp, spin;
    bool fresh;            /* names that do not exist are asked for once: their first label is random */
} option = {.sockets = 8, .in_flight = 200, .seconds = 2, .warm_up = 0.2, .patience = 0.5, .sources = 1};

static struct question *questions;
static size_t question_count, next_question;
static struct client clients[MAX_SOCKETS];
static uint32_t slots_each; /* a power of two: the low bits of an id are its slot */
static int epoll_fd;

static bool measuring;
static volatile sig_atomic_t told_to_end; /* by SIGTERM: what was asked so far is waited for and reported */
static uint64_t total; /* all answers, those of the warm-up too: what the server's CPU time is for */
static struct {
    uint64_t sent, answered, wrong, lost, late, without_opt, cookies, truncated, reconnects, send_errors;
} count;
static char first_wrong[160];
static uint32_t *latencies; /* ns */
static size_t latency_count, latency_room;

static void die(const char *what) {
    fprintf(stderr, "loadgen: %s: %s\n", what, strerror(errno));
    exit(2);
}

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static uint64_t random_bits(void) { /* xorshift64 */
    static uint64_t state = 0x9e3779b97f4a7c15ull;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static void read_questions(void) {
    FILE *file = fopen(option.questions_file, "rb");
    if (!file) die(option.questions_file);
    uint8_t head[4];
    size_t room = 0;
    while (fread(head, 1, 4, file) == 4) {
        if (question_count == room) {
            room = room ? room * 2 : 1024;
            questions = realloc(questions, room * sizeof *questions);
            if (!questions) die("memory");
        }
        struct question *q = &questions[question_count++];
        q->length = (uint16_t)(head[0] << 8 | head[1]);
        q->rcode = head[2];
        q->answers = head[3];
        if (q->length > MAX_QUESTION || fread(q->wire, 1, q->length, file) != q->length) {
            fprintf(stderr, "loadgen: %s: record %zu is cut or too long\n", option.questions_file, question_count);
            exit(2);
        }
    }
    fclose(file);
    if (!question_count) {
        fprintf(stderr, "loadgen: %s: no questions\n", option.questions_file);
        exit(2);
    }
}

/* Fills a slot with the next question; returns it ready to be sent. */
static struct slot *ask(struct client *client, uint32_t index, uint64_t due) {
    struct slot *slot = &client->slots[index];
    const struct question *q = &questions[next_question];
    if (++next_question == question_count) next_question = 0;
    slot->id = (uint16_t)(slot->id + slots_each); /* the slot's number stays in the low bits */
    slot->pending = true;
    slot->counted = measuring;
    slot->due = due;
    slot->rcode = q->rcode;
    slot->answers = q->answers;
    slot->question_length = q->length;

    bool opt = option.edns || option.cookie;
    uint8_t *p = slot->query + 2;
    const uint8_t header[12] = {(uint8_t)(slot->id >> 8), (uint8_t)slot->id, 1, 0, 0, 1, 0, 0, 0, 0, 0, opt};
    memcpy(p, header, 12);
    p += 12;
    memcpy(p, q->wire, q->length);
    if (option.mixed_case) {
        uint64_t bits = random_bits();
        for (int i = 0; i < q->length - 4; i++) {
            uint8_t c = (uint8_t)(p[i] | 0x20);
            if (p[i] > 63 && c >= 'a' && c <= 'z') {
                p[i] = (uint8_t)(c ^ ((bits & 1) << 5));
                bits = bits >> 1 | bits << 63;
            }
        }
    }
    if (option.fresh && q->rcode == NXDOMAIN) {
        uint64_t bits = random_bits();
        for (int i = 1; i <= p[0] && i <= 16; i++, bits >>= 4) p[i] = "0123456789abcdef"[bits & 15];
    }
    p += q->length;
    if (opt) {
        const uint8_t bare[11] = {0, 0, 41, 1232 >> 8, 1232 & 255, 0, 0, 0, 0, 0, option.cookie ? 12 : 0};
        memcpy(p, bare, 11);
        p += 11;
    }
    if (option.cookie) {
        static uint64_t seed;
        const uint8_t head[4] = {0, 10, 0, 8}; /* option COOKIE, 8 octets: RFC 7873 section 4 */
        uint64_t cookie = option.cookies ? random_bits() % (uint64_t)option.cookies : ++seed;
        cookie = (cookie + 1) * 0x9e3779b97f4a7c15ull; /* client numbers, spread over all 8 octets */
        memcpy(p, head, 4);
        memcpy(p + 4, &cookie, 8);
        p += 12;
    }
    slot->length = (uint16_t)(p - slot->query - 2);
    slot->query[0] = (uint8_t)(slot->length >> 8);
    slot->query[1] = (uint8_t)slot->length;
    if (measuring) count.sent++;
    return slot;
}

static void note_latency(uint64_t nanoseconds) {
    if (latency_count == latency_room) {
        latency_room = latency_room ? latency_room * 2 : 1 << 20;
        latencies = realloc(latencies, latency_room * sizeof *latencies);
        if (!latencies) die("memory");
    }
    latencies[latency_count++] = nanoseconds > UINT32_MAX ? UINT32_MAX : (uint32_t)nanoseconds;
}

static bool has_cookie(const struct slot *slot, const uint8_t *reply, size_t length) {
    /* The client cookie and at least 8 octets of the server's, anywhere behind the question. */
    const uint8_t *cookie = slot->query + 2 + slot->length - 8;
    const uint8_t *at = memmem(reply + 12, length - 12, cookie, 8);
    return at && at + 16 <= reply + length;
}

/* Judges one reply. Returns the slot it frees, or -1 if it belongs to none. */
static int judge(struct client *client, const uint8_t *reply, size_t length, uint64_t when) {
    if (length < 12) return -1;
    uint16_t id = (uint16_t)(reply[0] << 8 | reply[1]);
    uint32_t index = id & (slots_each - 1);
    struct slot *slot = &client->slots[index];
    if (!slot->pending || slot->id != id) {
        if (measuring) count.late++;
        return -1;
    }
    slot->pending = false;
    total++;
    if (!slot->counted) return (int)index;
    unsigned answers = (unsigned)(reply[6] << 8 | reply[7]), additional = (unsigned)(reply[10] << 8 | reply[11]);
    bool truncated = reply[2] & 2;
    const char *wrong = NULL;
    if (!(reply[2] & 0x80)) wrong = "not a response";
    else if ((reply[3] & 15) != slot->rcode) wrong = "rcode";
    else if (truncated) wrong = "truncated";
    else if (answers != slot->answers) wrong = "number of answers";
    else if (reply[4] || reply[5] != 1 || length < 12u + slot->question_length ||
             memcmp(reply + 12, slot->query + 14, slot->question_length) != 0)
        wrong = "question not echoed";
    count.truncated += truncated;
    if (wrong) {
        if (!count.wrong++)
            snprintf(first_wrong, sizeof first_wrong, "%s: rcode %d (expected %d), answers %u (expected %d), length %zu",
                     wrong, reply[3] & 15, slot->rcode, answers, slot->answers, length);
    } else {
        count.answered++;
    }
    if ((option.edns || option.cookie) && !additional) count.without_opt++;
    if (option.cookie && has_cookie(slot, reply, length)) count.cookies++;
    note_latency(when - slot->due);
    return (int)index;
}

/* --- UDP --- */

static struct mmsghdr out_messages[BATCH], in_messages[BATCH];
static struct iovec out_parts[BATCH], in_parts[BATCH];
static uint8_t in_buffers[BATCH][MAX_REPLY];
static int out_count;

static void flush(struct client *client) {
    int done = 0;
    while (done < out_count) {
        int n = sendmmsg(client->fd, out_messages + done, (unsigned)(out_count - done), 0);
        if (n > 0) {
            done += n;
        } else if (errno != EINTR) { /* ECONNREFUSED and full buffers: it counts as lost in the end */
            count.send_errors++;
            done++;
        }
    }
    out_count = 0;
}

static void put(struct client *client, const struct slot *slot) {
    out_parts[out_count] = (struct iovec){(void *)(slot->query + 2), slot->length};
    out_messages[out_count].msg_hdr = (struct msghdr){.msg_iov = &out_parts[out_count], .msg_iovlen = 1};
    if (++out_count == BATCH) flush(client);
}

/* Takes in what a socket holds; in closed loop every answer is followed by a new question. */
static void receive(struct client *client, bool refill) {
    int n = recvmmsg(client->fd, in_messages, BATCH, MSG_DONTWAIT, NULL);
    if (n <= 0) return;
    uint64_t when = now();
    for (int i = 0; i < n; i++) {
        int index = judge(client, in_buffers[i], in_messages[i].msg_len, when);
        if (index >= 0 && refill) put(client, ask(client, (uint32_t)index, when));
    }
    flush(client);
}

/* --- TCP --- */

static void open_client(struct client *client);

static void reopen(struct client *client) {
    close(client->fd);
    client->in_length = client->out_length = 0;
    client->want_write = false;
    if (measuring) count.reconnects++;
    open_client(client);
}

static bool push(struct client *client) {
    while (client->out_length) {
        ssize_t n = send(client->fd, client->out, client->out_length, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno != EAGAIN) return false;
        if (n < 0) break;
        client->out_length -= (size_t)n;
        memmove(client->out, client->out + n, client->out_length);
    }
    bool want = client->out_length > 0;
    if (want != client->want_write) {
        struct epoll_event event = {.events = EPOLLIN | (want ? EPOLLOUT : 0), .data.ptr = client};
        epoll_ctl(epoll_fd, EPOLL_CTL_MOD, client->fd, &event);
        client->want_write = want;
    }
    return true;
}

static void queue(struct client *client, const struct slot *slot) {
    if (client->out_length + slot->length + 2u > STREAM_BUFFER) return; /* will count as lost */
    memcpy(client->out + client->out_length, slot->query, slot->length + 2u);
    client->out_length += slot->length + 2u;
}

/* After a server closed a connection, what was on its way there is asked again on the new one. */
static void ask_again(struct client *client) {
    reopen(client);
    for (uint32_t i = 0; i < slots_each; i++)
        if (client->slots[i].pending) queue(client, &client->slots[i]);
    push(client);
}

static void receive_stream(struct client *client, bool refill) {
    ssize_t n = recv(client->fd, client->in + client->in_length, STREAM_BUFFER - client->in_length, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        push(client);
        return;
    }
    if (n <= 0) {
        ask_again(client);
        return;
    }
    client->in_length += (size_t)n;
    uint64_t when = now();
    size_t at = 0;
    while (client->in_length - at >= 2) {
        size_t length = (size_t)(client->in[at] << 8 | client->in[at + 1]);
        if (client->in_length - at - 2 < length) break;
        int index = judge(client, client->in + at + 2, length, when);
        if (index >= 0 && refill) queue(client, ask(client, (uint32_t)index, when));
        at += 2 + length;
    }
    client->in_length -= at;
    memmove(client->in, client->in + at, client->in_length);
    if (!push(client)) ask_again(client);
}

/* --- both --- */

static void open_client(struct client *client) {
    client->fd = socket(AF_INET, option.tcp ? SOCK_STREAM : SOCK_DGRAM, 0);
    if (client->fd < 0) die("socket");
    int size = 4 << 20, one = 1;
    if (!option.tcp) {
        setsockopt(client->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
        setsockopt(client->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    } else {
        setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    if (client->source.sin_addr.s_addr && bind(client->fd, (struct sockaddr *)&client->source, sizeof client->source))
        die("bind to a source address");
    if (connect(client->fd, (struct sockaddr *)&option.server, sizeof option.server)) die("connect");
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, client->fd, &event)) die("epoll_ctl");
}

static void open_clients(void) {
    epoll_fd = epoll_create1(0);
    for (int i = 0; i < option.sockets; i++) {
        struct client *client = &clients[i];
        client->source.sin_family = AF_INET;
        if (option.source.s_addr)
            client->source.sin_addr.s_addr =
                htonl(ntohl(option.source.s_addr) + (uint32_t)(i % option.sources) * 256);
        client->slots = calloc(slots_each, sizeof *client->slots);
        if (!client->slots) die("memory");
        for (uint32_t s = 0; s < slots_each; s++)
            client->slots[s].id = (uint16_t)((random_bits() & 0xffff & ~(uint64_t)(slots_each - 1)) | s);
        if (option.tcp) {
            client->in = malloc(STREAM_BUFFER);
            client->out = malloc(STREAM_BUFFER);
            if (!client->in || !client->out) die("memory");
        }
        open_client(client);
    }
    for (int i = 0; i < BATCH; i++) {
        in_parts[i] = (struct iovec){in_buffers[i], MAX_REPLY};
        in_messages[i].msg_hdr = (struct msghdr){.msg_iov = &in_parts[i], .msg_iovlen = 1};
    }
}

static void send_one(struct client *client, struct slot *slot) {
    if (option.tcp) queue(client, slot);
    else put(client, slot);
}

static void send_all(struct client *client) {
    if (!option.tcp) flush(client);
    else if (!push(client)) ask_again(client);
}

static void drain(int timeout_ms, bool refill) {
    struct epoll_event events[64];
    int n = epoll_wait(epoll_fd, events, 64, timeout_ms);
    for (int i = 0; i < n; i++) {
        struct client *client = events[i].data.ptr;
        if (option.tcp) receive_stream(client, refill);
        else receive(client, refill);
    }
}

static void give_up(bool refill) {
    uint64_t when = now();
    for (int c = 0; c < option.sockets; c++) {
        for (uint32_t s = 0; s < slots_each; s++) {
            struct slot *slot = &clients[c].slots[s];
            if (!slot->pending || when - slot->due < LOST_CLOSED) continue;
            slot->pending = false;
            if (slot->counted) count.lost++;
            if (refill) send_one(&clients[c], ask(&clients[c], s, when));
        }
        send_all(&clients[c]);
    }
}

/* Runs until `end`; returns the seconds that really passed. */
static double closed_loop(uint64_t end) {
    uint64_t start = now(), look_again = start + LOST_CLOSED / 4, when = start;
    while (!told_to_end && (when = now()) < end) {
        drain(option.spin ? 0 : 20, true);
        if (when >= look_again) {
            give_up(true);
            look_again = when + LOST_CLOSED / 4;
        }
    }
    return (double)(when - start) / (double)SECOND;
}

static double open_loop(uint64_t end) {
    uint64_t start = now(), when = start, sent = 0;
    static int turn;
    double step = (double)SECOND / option.rate;
    while (!told_to_end && (when = now()) < end) {
        uint64_t due;
        struct client *client = &clients[turn];
        if (++turn == option.sockets) turn = 0;
        /* Some at a time, where it is late: with one call, and looking at what has come in between. */
        for (int some = 0; some < TOGETHER && (due = start + (uint64_t)((double)sent * step)) <= when; some++) {
            uint32_t index = client->next_slot++ & (slots_each - 1);
            if (client->slots[index].pending && client->slots[index].counted) count.lost++;
            send_one(client, ask(client, index, due));
            sent++;
        }
        send_all(client);
        /* to sleep costs up to a millisecond of punctuality, and leaves the processor to others */
        drain(option.spin || start + (uint64_t)((double)sent * step) <= when ? 0 : 1, false);
    }
    return (double)(when - start) / (double)SECOND;
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double percentile(double share) {
    if (!latency_count) return 0;
    size_t at = (size_t)(share * (double)(latency_count - 1));
    return latencies[at] / 1000.0;
}

static void usage(void) {
    fputs("usage: loadgen [--seconds S] [--warm-up S] [--sockets N] [--in-flight N | --rate PER_SECOND]\n"
          "               [--source ADDRESS [--sources N]] [--edns | --cookies CLIENTS]\n"
          "               [--patience S] [--mixed-case] [--fresh] [--tcp] [--spin] ADDRESS PORT QUESTIONS\n",
          stderr);
    exit(2);
}

static void read_options(int argc, char **argv) {
    enum { SECONDS = 1, WARM_UP, SOCKETS, IN_FLIGHT, RATE, SOURCE, SOURCES, EDNS, COOKIES, MIXED, FRESH, TCP, SPIN, PATIENCE };
    static const struct option known[] = {
        {"seconds", 1, 0, SECONDS}, {"warm-up", 1, 0, WARM_UP},   {"sockets", 1, 0, SOCKETS},
        {"in-flight", 1, 0, IN_FLIGHT}, {"rate", 1, 0, RATE},     {"source", 1, 0, SOURCE},
        {"sources", 1, 0, SOURCES}, {"edns", 0, 0, EDNS},         {"cookies", 1, 0, COOKIES},
        {"mixed-case", 0, 0, MIXED}, {"fresh", 0, 0, FRESH},       {"tcp", 0, 0, TCP},          {"spin", 0, 0, SPIN},
        {"patience", 1, 0, PATIENCE}, {0}};
    int flag;
    while ((flag = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (flag) {
        case SECONDS: option.seconds = atof(optarg); break;
        case WARM_UP: option.warm_up = atof(optarg); break;
        case SOCKETS: option.sockets = atoi(optarg); break;
        case IN_FLIGHT: option.in_flight = atoi(optarg); break;
        case RATE: option.rate = atof(optarg); break;
        case SOURCE:
            if (!inet_aton(optarg, &option.source)) usage();
            break;
        case SOURCES: option.sources = atoi(optarg); break;
        case EDNS: option.edns = true; break;
        case COOKIES: option.cookie = true, option.cookies = atoi(optarg); break;
        case MIXED: option.mixed_case = true; break;
        case FRESH: option.fresh = true; break;
        case TCP: option.tcp = true; break;
        case SPIN: option.spin = true; break;
        case PATIENCE: option.patience = atof(optarg); break;
        default: usage();
        }
    }
    if (argc - optind != 3 || option.sockets < 1 || option.sockets > MAX_SOCKETS || option.in_flight < option.sockets ||
        option.sources < 1 || option.seconds <= 0)
        usage();
    option.server.sin_family = AF_INET;
    if (!inet_aton(argv[optind], &option.server.sin_addr)) usage();
    option.server.sin_port = htons((uint16_t)atoi(argv[optind + 1]));
    option.questions_file = argv[optind + 2];
}

static void end_early(int number) {
    told_to_end = number;
}

int main(int argc, char **argv) {
    signal(SIGTERM, end_early);
    read_options(argc, argv);
    read_questions();
    uint32_t depth = (uint32_t)(option.in_flight / option.sockets);
    slots_each = 1;
    double waiting = option.rate * (option.patience > 1 ? option.patience : 1);
    while (slots_each < (option.rate > 0 ? (uint32_t)(waiting / option.sockets) + 1 : depth)) slots_each *= 2;
    if (slots_each > 32768) {
        fputs("loadgen: too many questions on their way for one socket: use more --sockets\n", stderr);
        return 2;
    }
    open_clients();

    uint64_t start = now(), end = start + (uint64_t)(option.warm_up * 1e9);
    if (option.rate <= 0)
        for (int c = 0; c < option.sockets; c++) {
            for (uint32_t s = 0; s < depth; s++) send_one(&clients[c], ask(&clients[c], s, start));
            send_all(&clients[c]);
        }
    double (*loop)(uint64_t) = option.rate > 0 ? open_loop : closed_loop;
    if (option.warm_up > 0) loop(end);
    measuring = true;
    double seconds = loop(now() + (uint64_t)(option.seconds * 1e9));
    uint64_t answered = count.answered + count.wrong;
    if (option.rate > 0) { /* wait for the stragglers; what is still out then is lost */
        uint64_t patience = now() + (uint64_t)(option.patience * 1e9);
        while (now() < patience && count.answered + count.wrong + count.lost < count.sent) drain(10, false);
        count.lost = count.sent > count.answered + count.wrong ? count.sent - count.answered - count.wrong : 0;
    }

    qsort(latencies, latency_count, sizeof *latencies, ascending);
    printf("{\"seconds\": %.6f, \"qps\": %.1f, \"sent\": %lu, \"answered\": %lu, \"wrong\": %lu, \"lost\": %lu, "
           "\"late\": %lu, \"truncated\": %lu, \"without_opt\": %lu, \"cookies\": %lu, \"reconnects\": %lu, "
           "\"send_errors\": %lu, \"total\": %lu, \"p50\": %.2f, \"p99\": %.2f, \"p999\": %.2f, \"max\": %.2f, \"first_wrong\": \"%s\"}\n",
           seconds, (double)answered / seconds, count.sent, count.answered, count.wrong, count.lost, count.late,
           count.truncated, count.without_opt, count.cookies, count.reconnects, count.send_errors, total, percentile(0.5),
           percentile(0.99), percentile(0.999), percentile(1), first_wrong);
    return 0;
}
