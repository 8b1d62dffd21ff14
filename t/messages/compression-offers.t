# What websocket.accept() answers to offers of permessage-deflate (RFC 7692 7.1): all four parameters,
# as the client asks and as the server wants, offers that are passed over, and who decides whether
# there is compression at all: the option, else the directive, else no.

use Test::Nginx::Socket::Lua;
use t::Message;

# `offer`: the client's header value, or one a line; `answer`: the server's, empty for none.
add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(handler => 'report(ws.extensions)');
    if (defined(my $offer = $block->offer)) {
        $block->set_value(head => join '', map { "Sec-WebSocket-Extensions: $_\n" } split /\n/, $offer);
    }
    if (defined(my $answer = $block->answer)) {
        $answer =~ s/\s+\z//;
        $block->set_value(response_headers => length $answer
            ? "Sec-WebSocket-Extensions: $answer" : '! Sec-WebSocket-Extensions');
        $block->set_value(results => length $answer ? brief($answer) . "\n" : "nil\n");
    }
    complete_message_block($block);
});
repeat_each(2);
plan('no_plan');
no_long_string();
run_tests();

__DATA__

=== TEST 1: off by default
--- offer
permessage-deflate
--- answer: 



=== TEST 2: on by the option
--- options: { compression = true }
--- offer
permessage-deflate
--- answer: permessage-deflate



=== TEST 3: no offer
--- options: { compression = true }
--- answer: 



=== TEST 4: on by the directive
--- directives: websocket_compression on;
--- offer
permessage-deflate
--- answer: permessage-deflate



=== TEST 5: the option overrides the directive: off
--- options: { compression = false }
--- directives: websocket_compression on;
--- offer
permessage-deflate
--- answer: 



=== TEST 6: the option overrides the directive: on
--- options: { compression = true }
--- directives: websocket_compression off;
--- offer
permessage-deflate
--- answer: permessage-deflate



=== TEST 7: a table is on
--- options: { compression = {} }
--- offer
permessage-deflate
--- answer: permessage-deflate



=== TEST 8: a table takes what it does not say from the directive
--- options: { compression = { level = 1 } }
--- directives: websocket_compression on server_no_context_takeover server_max_window_bits=10;
--- offer
permessage-deflate
--- answer: permessage-deflate; server_no_context_takeover; server_max_window_bits=10



=== TEST 9: a table overrides the directive
--- options: { compression = { server_no_context_takeover = false, server_max_window_bits = 15 } }
--- directives: websocket_compression on server_no_context_takeover server_max_window_bits=10;
--- offer
permessage-deflate
--- answer: permessage-deflate



=== TEST 10: server_no_context_takeover, asked for
--- options: { compression = true }
--- offer
permessage-deflate; server_no_context_takeover
--- answer: permessage-deflate; server_no_context_takeover



=== TEST 11: server_no_context_takeover, of our own
--- options: { compression = { server_no_context_takeover = true } }
--- offer
permessage-deflate
--- answer: permessage-deflate; server_no_context_takeover



=== TEST 12: client_no_context_takeover, offered
--- options: { compression = true }
--- offer
permessage-deflate; client_no_context_takeover
--- answer: permessage-deflate; client_no_context_takeover



=== TEST 13: client_no_context_takeover, of our own
--- options: { compression = { client_no_context_takeover = true } }
--- offer
permessage-deflate
--- answer: permessage-deflate; client_no_context_takeover



=== TEST 14: server_max_window_bits, asked for
--- options: { compression = true }
--- offer
permessage-deflate; server_max_window_bits=11
--- answer: permessage-deflate; server_max_window_bits=11



=== TEST 15: server_max_window_bits of 15, asked for
--- options: { compression = true }
--- offer
permessage-deflate; server_max_window_bits=15
--- answer: permessage-deflate; server_max_window_bits=15



=== TEST 16: server_max_window_bits of 8, asked for
--- options: { compression = true }
--- offer
permessage-deflate; server_max_window_bits=8
--- answer: permessage-deflate; server_max_window_bits=8



=== TEST 17: server_max_window_bits, of our own
--- options: { compression = { server_max_window_bits = 12 } }
--- offer
permessage-deflate
--- answer: permessage-deflate; server_max_window_bits=12



=== TEST 18: server_max_window_bits: the smaller one
--- options: { compression = { server_max_window_bits = 12 } }
--- offer
permessage-deflate; server_max_window_bits=10
--- answer: permessage-deflate; server_max_window_bits=10



=== TEST 19: server_max_window_bits: ours is smaller
--- options: { compression = { server_max_window_bits = 9 } }
--- offer
permessage-deflate; server_max_window_bits=10
--- answer: permessage-deflate; server_max_window_bits=9



=== TEST 20: client_max_window_bits, to choose
--- options: { compression = true }
--- offer
permessage-deflate; client_max_window_bits
--- answer: permessage-deflate



=== TEST 21: client_max_window_bits, to choose, and we choose
--- options: { compression = { client_max_window_bits = 10 } }
--- offer
permessage-deflate; client_max_window_bits
--- answer: permessage-deflate; client_max_window_bits=10



=== TEST 22: client_max_window_bits, with a value
--- options: { compression = true }
--- offer
permessage-deflate; client_max_window_bits=12
--- answer: permessage-deflate; client_max_window_bits=12



=== TEST 23: client_max_window_bits, with a larger value than ours
--- options: { compression = { client_max_window_bits = 10 } }
--- offer
permessage-deflate; client_max_window_bits=12
--- answer: permessage-deflate; client_max_window_bits=10



=== TEST 24: client_max_window_bits, not offered: the client cannot be asked
--- options: { compression = { client_max_window_bits = 10 } }
--- offer
permessage-deflate
--- answer: permessage-deflate



=== TEST 25: client_max_window_bits of 8: many clients cannot, so 9
--- options: { compression = { client_max_window_bits = 8 } }
--- offer
permessage-deflate; client_max_window_bits
--- answer: permessage-deflate; client_max_window_bits=9



=== TEST 26: everything at once
--- options: { compression = true }
--- offer
permessage-deflate; client_max_window_bits; server_max_window_bits=9; client_no_context_takeover; server_no_context_takeover
--- answer: permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9



=== TEST 27: the first of several offers
--- options: { compression = true }
--- offer
permessage-deflate; server_max_window_bits=10, permessage-deflate
--- answer: permessage-deflate; server_max_window_bits=10



=== TEST 28: fallbacks on several lines
--- options: { compression = true }
--- offer
x-webkit-deflate-frame
permessage-deflate; unknown
permessage-deflate; client_no_context_takeover
--- answer: permessage-deflate; client_no_context_takeover



=== TEST 29: a quoted value
--- options: { compression = true }
--- offer
permessage-deflate; server_max_window_bits="10"
--- answer: permessage-deflate; server_max_window_bits=10



=== TEST 30: odd white space
--- options: { compression = true }
--- offer
 ,	permessage-deflate ;  server_max_window_bits = 10	,
--- answer: permessage-deflate; server_max_window_bits=10



=== TEST 31: declined: another extension
--- options: { compression = true }
--- offer
permessage-bzip2
--- answer: 



=== TEST 32: declined: a name in other case
--- options: { compression = true }
--- offer
Permessage-Deflate
--- answer: 



=== TEST 33: declined: an unknown parameter
--- options: { compression = true }
--- offer
permessage-deflate; level=9
--- answer: 



=== TEST 34: declined: a parameter twice
--- options: { compression = true }
--- offer
permessage-deflate; server_max_window_bits=10; server_max_window_bits=10
--- answer: 



=== TEST 35: declined: a window of 7
--- options: { compression = true }
--- offer
permessage-deflate; server_max_window_bits=7
--- answer: 



=== TEST 36: declined: a window of 16
--- options: { compression = true }
--- offer
permessage-deflate; client_max_window_bits=16
--- answer: 



=== TEST 37: declined: a window with a leading zero
--- options: { compression = true }
--- offer
permessage-deflate; server_max_window_bits=09
--- answer: 



=== TEST 38: declined: server_max_window_bits without a value
--- options: { compression = true }
--- offer
permessage-deflate; server_max_window_bits
--- answer: 



=== TEST 39: declined: a flag with a value
--- options: { compression = true }
--- offer
permessage-deflate; server_no_context_takeover=true
--- answer: 



=== TEST 40: declined: a value that the parameter cannot have
--- options: { compression = true }
--- offer
permessage-deflate; client_max_window_bits=x
--- answer: 



=== TEST 41: declined: nothing at all
--- options: { compression = true }
--- offer
, ,
--- answer: 
