"""Why a goal is missed and what was tried, by how its text matches. report.py prints a reason only
while a goal that it explains is missed."""
import re

REASONS = [
    (r"^32 B.*websocket\.proxy, on_message",
     "both make the same system calls, two reads and two sends a round trip, which are two thirds of the time. Beside them stood 16800 "
     "instructions in user space for a round trip through the callback, 13800 through the forwarder, whose loop over cosockets "
     "LuaJIT compiles, and 6700 through websocket_proxy. Of the 16800 LuaJIT had 3100, nginx and ngx_lua (a semaphore with a timer for each "
     "wait) 2100, the module the rest: half of that looked at both sides after each event. Tried and kept since: output that leaves is not looked "
     "at again, nor a write event that comes along with a read event (at opt-level 1: 25400 -> 21700). Not tried: one native in the place of put and "
     "take, for two of four calls."),
    (r"^16 KiB.*websocket\.proxy, on_message",
     "websocket_proxy, without any Lua, is itself at a sixth or seventh of the forwarder, so that next to nothing is left for a callback. That wants "
     "a string of each message: a fifth of the time is LuaJIT's, most of it its collector's, which each 16 KiB of garbage bring nearer a cycle over "
     "all that the worker has alive; copies are a twentieth. Tried and kept: a string that the callback returns as it was is not "
     "looked at again; a handler that waits takes the message from where it was read, since then also where a write event comes along with it, "
     "which had it copied once more (in user space, at opt-level 1: 81100 -> 60000 instructions for a round trip). Tried and kept: to have a cycle "
     "wait for 4 MiB more (the proxy's rows 15 % less time, callbacks 7 % in bursts of this size, messages of 4 KiB in bursts 10 %); the forwarder, in the same "
     "nginx, gains by it too (106 -> 99 us). "
     "Not tried: to hand the message out where it lies, as serve{ raw = true } "
     "does, where an echo of this size went from 22900 to 16200 instructions in user space."),
    (r"^broadcast.*2 workers / 1",
     "both workers share one core here, so each round switches between two processes, each with memory of its own to go "
     "through. What the second costs beyond that is little: one write and one read of an eventfd, an epoll_wait and a "
     "read of the ring for each message, some microseconds beside the 8 ms that its thousand deliveries take."),
    (r"^broadcast.*larger share",
     "the kernel spreads connections over the workers' listeners by their addresses; the shares follow it."),
    (r"^(32 B|1 KiB), .*callbacks",
     "a callback's message takes the way of one in a loop over recv() (what that costs is said there), and beside it a look into the set of "
     "connections, one at ngx.ctx and an xpcall. Both loops are compiled, and none aborts. Tried and kept (in user space, 32 B, at opt-level 1: one "
     "in flight 9920 -> 6570 instructions, the loop over recv() 6310; 16 in flight 3620 -> 2310, the loop 2090): a write event that nginx's own wait for "
     "the end of the handler has put on the connection, and which with edges came along with each read event, no longer reads all into the inbox before "
     "the runner can take it from where it was read (9920 -> 7640, 3620 -> 2420); a runner asks for the connection's next message in one step and reads "
     "by itself when it is woken, without a native in between (7640 -> 6570, 2420 -> 2310). Not tried: to look at ngx.ctx once a burst (40 "
     "instructions), which would need to know that no callback has used it."),
    (r"^(32 B|1 KiB), 10 connections",
     "at 16 in flight the system calls are shared by a burst, and what a message costs is its Lua string (made, found in "
     "the string table, swept and freed: 560 of 1300 instructions in user space at 32 B, 1500 of 2800 at 1 KiB, where "
     "LuaJIT's collector runs a cycle for each MiB), its frame both ways (500), and the copy into the outbox. tokio-"
     "tungstenite makes no string. Tried and kept: recv and send by LuaJIT's FFI in one trace with the program's loop, a "
     "plain frame taken in one step from where it was read, worker-wide statics for thread-locals, output buffers that "
     "are kept: 4350 -> 1300 instructions; output of 32 KiB in one piece (1 KiB: 1.28 -> 1.16 us). Tried: wider "
     "masking steps (1 KiB: 70 instructions less, no time). Tried: a collector that "
     "waits for more garbage of this size (1 KiB: with 4 MiB 10 % less time, with 2 MiB, which a cache of 2 MiB holds, 18 %, on a quiet machine), but "
     "coroutines are of this size too, and a worker whose connections come and go had 15 MB more. Not tried: to count messages alone."),
    (r"^(32 B|1 KiB), 100 connections, 1 in flight",
     "one recv and one send for each message, as fastwebsockets makes, and the kernel's part of both is more than "
     "eight tenths of the cost. The rest is what a light thread needs on top of a codec: an event posts ngx_lua's "
     "semaphore, another resumes the coroutine, which enters and leaves its compiled trace once for each message and is "
     "parked with a timer set and removed (ngx_lua, nginx and LuaJIT without its strings: about 1700 of 3850 "
     "instructions in user space; the string 600; recv, send, park and flush 1500). Tried and kept: recv and send by "
     "LuaJIT's FFI, the reader reads by itself, no heap, send() for writev(), no thread-locals, nothing asked of the "
     "codec where no bytes are: 7500 -> 3850 instructions. Tried: to send the reply when its reader parks instead of at the "
     "end of the turn, 70 instructions less but 4 to 6 % more time, as the replies to all connections no longer leave "
     "together. Tried on Debian 13 (nginx 1.26.3, ngx_lua 0.10.28; 2026-11-26): to resume by ngx_lua's co_ctx interface, "
     "which is there from 0.10.24 on, instead of by a semaphore: frames 1747 -> 1561 and messages 1870 -> 1646 instructions of "
     "nginx, ngx_lua and the module, of about 4100 in user space; 5 %, where a third would have to go. The interface tells nobody "
     "of a light thread that was killed, but by a private field (ARCHITECTURE.md, Waiting in Lua), and was left out."),
    (r"^1 MiB",
     "large messages: a payload is read into memory of its own, copied once, into its Lua string, and sent from "
     "there; what is left is the kernel's copying and those two passes. Tried and kept: payloads are assembled "
     "in memory that the worker keeps, sent by one writev from Lua's own bytes; large blocks of LuaJIT's "
     "allocator are kept for the next string, and its collector made to keep up with them (258 page faults a "
     "message -> 0, and half the time). Tried: to collect after 1 MiB of garbage instead of 4, so that fewer blocks "
     "take turns in the caches: 696 -> 745 us; after 2 MiB, no gain."),
    (r"^16 KiB",
     "each message becomes a Lua string (a copy, and collected garbage) and, alone, leaves by a writev of its own "
     "from there, where fastwebsockets unmasks and writes the buffer that it read into. Tried and kept: in bursts "
     "answers are copied once more and leave 128 KiB at a time (16.6 -> 8.4 us; 64 KiB at a time 9.6), the send by "
     "LuaJIT's FFI (22 -> 19 us). Tried: a reading buffer of 256 KiB instead of 64, no gain; keeping LuaJIT's blocks "
     "of this size as those of large strings are kept, no gain; a collector that waits for 4 MiB more, which other rows keep, no gain in these."),
    (r"^wss, 16 KiB",
     "outside OpenSSL and the kernel each payload is unmasked, copied into its Lua string and from there into nginx's "
     "buffer of one TLS record (in bursts by way of the output's own), and the string is made and collected by LuaJIT; "
     "a third each of what is left. What OpenSSL calls counts as OpenSSL's."),
    (r"^wss",
     "what is left outside OpenSSL and the kernel is ngx_lua's wait and Lua's own work, as in the plain rows; with "
     "messages of 32 B that is a large part of a small sum: at 16 in flight LuaJIT alone is a quarter (the message's string), "
     "while a burst is one TLS record each way, by one read and one write of the socket. Tried and kept: a read that brought "
     "less than OpenSSL's buffer holds has emptied the socket, and is not followed by one that learns it; a short text is found to be "
     "ASCII by words, not bytes. In user space 20280 -> 19210 instructions one in flight, 2570 -> 2270 each at 16; "
     "the whole worker's time 7.6 -> 7.1 us and 0.93 -> 0.84 us. The first was OpenSSL's and the kernel's part, so that this share rises "
     "by it. Of what is left one in flight OpenSSL and libc have 14600 instructions (its 16 KiB buffers, taken and given back for each record as "
     "nginx asks for by SSL_MODE_RELEASE_BUFFERS, among them), the module 2400, nginx 870, LuaJIT 900, ngx_lua 420. "
     "Not measured: TLS in the kernel. CONFIG_TLS is not set in this machine's (/proc/sys/net/ipv4/tcp_available_ulp has no "
     "\"tls\"). Where it is, `ssl_conf_command Options KTLS;` turns it on, Debian's OpenSSL is built for it (no OPENSSL_NO_KTLS in its "
     "headers), and `BIO_get_ktls_send(): 1` in nginx's debug log tells that it is used. Output leaves by nginx's own send_chain, which gives memory to "
     "SSL_write with it as without; where it is asked for, reads stay nginx's own, as the kernel brings one record at a time."),
    (r"rise beyond the floor",
     "ten thousand connections touch ten thousand requests, sessions and coroutines, 13 KB each, which no cache "
     "holds; the floor touches a few hundred bytes a connection."),
    (r"^broadcast, .*nchan",
     "one send for each subscriber, in both servers, is nine tenths of the cost: of about 600 instructions in user "
     "space a delivery no part stands out. Tried and kept: a frame is sent from where it lies, without a copy "
     "or a buffer for each connection, and by send() instead of writev()."),
    (r"^broker, publish to delivery",
     "a message wakes four processes in turn (nginx, Redis, nginx, the client), where Redis alone wakes two, and each of the "
     "two more has an event loop, a frame and a connection of its own to look after."),
    (r"^broadcast: 100 topics",
     "a connection's other topics are not looked at when it gets a message; they only take memory, and with it cache."),
    (r"^memory with deflate",
     "without context takeover the compressors are given back after each message; what stays is shared."),
    (r"^reload",
     "new workers start while the old ones still serve; on two cores with the client on one of them they wait for each "
     "other."),
    (r"^memory of an idle connection",
     "nginx's own part is 9.6 KB, by the allocator's count: two blocks of request_pool_size (8224 bytes; a request of an "
     "nginx with Lua uses 5.5 KB of them, 4.3 before any Lua runs), the request's head (1040; variables and the "
     "access log point into it), the connection's pool (528). A handler that only sleeps takes 10.0 KB. Beyond that: "
     "1.2 to 1.3 KB of live Lua memory (the coroutine, whose stack doubles once on its way to recv, about 950; the "
     "object 160, its userdata 80, id and request id 64 each) with what its collector has not taken yet, about 200 bytes "
     "of session, a semaphore of ngx_lua. Tried and kept: the session's state and events (1.1 KB) in the unused rest of "
     "the request's pool, 12.8 -> 11.7 KB; tables of four fields instead of eight, one raw request socket for all, 0.1 KB. "
     "The rows with small pools show what three lines of configuration save. Giving the rest of the second block "
     "back to the allocator was left alone: no allocator promises it."),
    (r"^after a (16 KiB|1 MiB) message",
     "what stays is shared by the worker, not a connection's: reading buffers, and Lua's garbage until its next "
     "cycle; what large payloads needed goes back after a few tenths of a second. Of it the C library kept twice the largest block at the heap's end, "
     "2 MiB after messages of 1 MiB (M_TRIM_THRESHOLD, mallopt(3)): with 300 connections 1.1 MB stayed, after a whole cycle of Lua's collector too; the heap is "
     "trimmed since, and nothing does."),
    (r"^opening and closing",
     "about two thirds are the kernel's: accept, one read and one write for each handshake, TCP_NODELAY, close. Beyond the pure "
     "library a connection has a session with its events and semaphore; the message API also checks all of RFC 6455 4.2.1 "
     "and its options, and registers an id in the hub. Tried and kept: close() at once after both close frames instead of "
     "shutdown, another turn and a read (4 to 6 us), one native that checks and sends the 101 instead of ngx.header, "
     "ngx.status, ngx.send_headers and ngx.flush (instructions in user space: drop-in 49100 -> 43000, messages 74500 -> "
     "53300), $request_id from nginx only where it is used, semaphores numbered instead of hashed. "
     "Counted on 2026-11-26, in user space, both handshakes (valgrind has no SHA instructions, which take most of 2800 off the module's): pure "
     "library 41300, drop-in 38100 -> 37900, messages 47300 -> 46100, a subscriber 37000 -> 33600: ids and accept keys are made without heap, ids "
     "are kept without SipHash, a topic that is asked for nine times is hashed once, and a connection at which nginx lingers is not shut "
     "down a second time (a system call). "
     "Of these 46100: 12100 nginx, 11200 LuaJIT; 6300 in what makes Lua's objects and strings and drives its collector, 4900 the checks with "
     "the accept key, 1000 the session, 1700 what the hub and the close handshake keep. Not tried: to make the ids where "
     "somebody asks, as serve() does, 3 % here: each method call of every message would go by a function. "
     "Tried: a table of options made with its room, no gain."),
    (r"^publish to a history topic, 1000",
     "a thousand deliveries are the kernel's writes for the most part, and differ by a tenth between rounds on a machine "
     "that does much else (two runs of one module: raw 0.93 and 1.10, JSON 1.05 on either side of the limit), so that neither "
     "row decides. Instructions in user space do (callgrind, 500 subscribers, bursts of 16, a publish's own share in them): raw 469 a "
     "delivery from a plain topic and 470 from one with a history, JSON 836 and 847 (1.01 x). Kept since: JSON subscribers are looked "
     "up once a delivery instead of twice, and by a cheaper hash: 367 more than a raw delivery -> 140, kept and plain alike."),
    (r"^publish to \d+ history topics",
     "it is not flat: by itself it rises by 1.26 to 1.45 in four runs (two with what was tried), where plain topics rise by 1.24 to 1.31. That their own "
     "rise is taken out, and how much may be left, is this file's choice. Instructions do not rise (callgrind: 7490 a publish to one "
     "topic, 7220 to ten thousand; plain 4510 and 4630), lines that are in no cache do: by its simulation four writes more (1.8 -> 5.8 "
     "a publish to a history topic, 2.9 with plain ones in both cases) and two reads: the topic's row and the message, which lie in the "
     "same few kilobytes again and again where there is one topic. Tried: the order of use kept to a second, so that a publish does not touch its "
     "topic's neighbours there; two runs each way, no gain beyond their difference."),
    (r"^broker, local delivery in bursts",
     "Redis sends a message back to its publisher's connection, too, where that is subscribed, and has no word against it for "
     "publish/subscribe: the gateway reads it, finds itself in the envelope and drops it, which is most of 0.9 µs a message. Both "
     "figures are differences of larger ones. In user space it is 2010 of 10740 instructions of a message (callgrind): about 1000 are "
     "resp-rs' and its buffers', 300 copies, 250 the envelope's. Tried: messages that lie whole at the beginning of what has come, and "
     "PUBLISH's answers, taken by hand before the parser; a read that ends within a frame hands all that follows to the parser, which "
     "kept more than half of its part: at opt-level 1 2240 instructions, no gain shown, and left out."),
    (r"members asked for: the longest wait",
     "no turn of the event loop is so long: of 41 million instructions for a list in some 40 turns the longest has 6, when LuaJIT's "
     "collector ends a cycle and marks what the list has so far, in one go. Supposed: nginx goes before all else while this is "
     "measured, so that what the kernel puts off on its core waits for the whole list. Tried and kept: a piece goes to Lua as one string, "
     "of which it makes the members, and topics are looked up once a piece: 43 -> 28 million (the latter still at opt-level 1). Tried: each "
     "member also put into an upvalue, so that the collector marks it at once; no shorter turns, 5 % more instructions."),
    (r"^a member comes and goes",
     "nothing of ours grows: 42580 instructions in user space among 100, 42040 among 3000, 42610 among 10000 (callgrind, without "
     "reading the numbers in between). A bare HTTP connection with one request, among as many that are kept alive, rose by 1.25 x in the "
     "same way (24.8 -> 30.9 µs, on a busy machine). The kernel's part and caches are left."),
    (r"^client, 16 KiB",
     "seven tenths of what is left is the kernel's: a send that wakes the echo server on the other core, one look at "
     "what came and one read of it. A client in C that does nothing else (epoll, one recv, one send of a frame made "
     "beforehand) needs 10 µs where this one needs 13.5 and the pure library 53, each on an idle machine; on a busy one "
     "waking costs more, and the ratio is less. Tried before: reading past the cosocket all but what it reads while it "
     "waits (16.2 µs)."),
]


def explain(text):
    """The reason for the goal of this text, if one is written down."""
    return next((reason for pattern, reason in REASONS if re.search(pattern, text)), None)
