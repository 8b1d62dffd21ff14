# What `nginx -t` says to directives: wrong values, wrong places, the same one twice. Not in blocks,
# because each case needs no server but one run of nginx, whose output is all there is to see.

use strict;
use warnings;

use Cwd qw(getcwd);
use File::Path qw(make_path remove_tree);
use Test::More;

my $root = ($ENV{TEST_NGINX_SERVROOT} // getcwd() . '/t/servroot') . '/directives';
my ($binary) = grep { -x } $ENV{TEST_NGINX_BINARY} // (),
  map { "$_/nginx" } split(/:/, $ENV{PATH}), '/usr/sbin', '/usr/local/sbin';
# Opened even by -t; one that others take for a port where nobody listens would not do.
my $port = $ENV{TEST_NGINX_SERVER_PORT} // 1984;
my @modules = split ' ', $ENV{TEST_NGINX_LOAD_MODULES} // '';
my $load = join '', map { "load_module $_;\n" } @modules;

remove_tree($root);
make_path("$root/logs", "$root/conf");
END { remove_tree($root) if defined $root }

# The exit code of `nginx -t` and what it wrote, without time, process and file.
sub nginx_says {
    my ($http, $server, $location) = @_;
    open my $out, '>', "$root/conf/nginx.conf" or die "nginx.conf: $!";
    print {$out} <<"END";
$load
error_log logs/error.log;
pid logs/nginx.pid;
events {}
http {
access_log off;
$http
server {
listen 127.0.0.1:$port;
$server
location / {
$location
}
}
}
END
    close $out;
    my $text = qx{'$binary' -t -p '$root/' -e stderr -c conf/nginx.conf 2>&1};
    my $code = $? >> 8;
    my @lines = grep { /\[emerg\]/ } split /\n/, $text;
    s/.*?\[emerg\] (?:\d+#\d+: )?//, s{ in \S+/nginx\.conf:\d+\z}{} for @lines;
    return join ' ', $code, @lines;
}

sub refused {
    my ($line, $message, $place) = @_;
    my @at = ('', '', '');
    $at[$place // 2] = $line;
    is(nginx_says(@at), "1 $message", $line =~ s/\n/ /gr . (defined $place ? " ($place)" : ''));
}

sub taken {
    my ($line, @places) = @_;
    for my $place (@places ? @places : 0 .. 2) {
        my @at = ('', '', '');
        $at[$place] = $line;
        is(nginx_says(@at), '0', "$line is taken (" . (qw(http server location))[$place] . ')');
    }
}

# Sizes.
for my $name (qw(websocket_max_message_size websocket_send_buffer)) {
    taken("$name 64k;");
    taken("$name $_;", 2) for qw(1 100 1m 1M 64K);
    refused("$name $_;", qq{"$name" directive must not be 0}) for qw(0 0k);
    refused("$name $_;", qq{"$name" directive invalid value}) for qw(-1 1.5k 64kb x k 1h);
    refused("$name;",          qq{invalid number of arguments in "$name" directive});
    refused("$name 1k 2k;",    qq{invalid number of arguments in "$name" directive});
    refused("$name 1k;\n$name 1k;", qq{"$name" directive is duplicate});
}

# Times.
for my $name (qw(websocket_recv_timeout websocket_send_timeout websocket_ping_interval
    websocket_ping_timeout))
{
    taken("$name 30s;");
    taken("$name $_;", 2) for qw(0 10 500ms 2m 1h 1d);
    refused("$name $_;", qq{"$name" directive invalid value}) for qw(-1 x 1.5s 10k);
    refused("$name;",          qq{invalid number of arguments in "$name" directive});
    refused("$name 1s;\n$name 1s;", qq{"$name" directive is duplicate});
}

# Compression.
{
    my $name = 'websocket_compression';
    taken("$name on;");
    taken("$name off;");
    taken("$name on $_;", 2) for qw(level=1 level=9 threshold=0 server_no_context_takeover
        client_no_context_takeover server_no_context_takeover=on client_no_context_takeover=off
        server_max_window_bits=8 server_max_window_bits=15 client_max_window_bits=8);
    taken("$name on level=1 threshold=100 server_no_context_takeover client_no_context_takeover server_max_window_bits=10 client_max_window_bits=10;", 2);
    refused("$name;",       qq{invalid number of arguments in "$name" directive});
    refused("$name yes;",   qq{invalid value "yes" in "$name" directive});
    refused("$name level=1;", qq{invalid value "level=1" in "$name" directive});
    refused("$name on $_;", qq{invalid parameter "$_" in "$name" directive})
      for qw(level level= level=0 level=10 level=x threshold=-1 threshold threshold=1k
        server_no_context_takeover=1 server_max_window_bits server_max_window_bits=7
        server_max_window_bits=16 client_max_window_bits=x memory=9 on);
    refused("$name on;\n$name off;", qq{"$name" directive is duplicate});
}

# Closing at the end.
{
    my $name = 'websocket_shutdown_close';
    taken("$name off;");
    taken("$name 1001;");
    taken(qq{$name 4000 "back soon" over=30s;}, 2);
    taken("$name 1012 over=500ms;", 2);
    refused("$name;", qq{invalid number of arguments in "$name" directive});
    refused("$name $_;", qq{invalid close code "$_" in "$name" directive})
      for qw(0 999 1004 1005 1006 1015 2999 5000 65537 x -1);
    refused("$name off off;", qq{invalid close code "off" in "$name" directive});
    refused("$name 1001 a b;", qq{invalid parameter "b" in "$name" directive});
    refused("$name 1001 over=x;", qq{invalid parameter "over=x" in "$name" directive});
    refused("$name 1001 a over=;", qq{invalid parameter "over=" in "$name" directive});
    my $long = 'r' x 124;
    refused("$name 1001 $long;", qq{invalid parameter "$long" in "$name" directive});
    refused("$name 1001 a over=1s b;", qq{invalid number of arguments in "$name" directive});
    refused("$name 1001;\n$name off;", qq{"$name" directive is duplicate});
}

# What happens to slow subscribers.
{
    my $name = 'websocket_slow_consumer';
    taken("$name $_;") for qw(drop close);
    refused("$name wait;", qq{invalid value "wait"});
    refused("$name;",      qq{invalid number of arguments in "$name" directive});
    refused("$name drop;\n$name close;", qq{"$name" directive is duplicate});
}

# Origins.
{
    my $name = 'websocket_origin';
    taken("$name https://example.org;");
    taken("$name $_;", 2) for 'off', 'null', '*.example.org', 'http://[::1]:8080 required',
      'https://a.org http://b.org:8080 *.c.org required';
    refused("$name $_;", qq{invalid origin "$_" in "$name" directive})
      for qw(example.org https:// *.example.org:8080 *. * https://*.org);
    refused("$name \"https://a b\";", qq{invalid origin "https://a b" in "$name" directive});
    refused("$name https://a.org off;", qq{invalid origin "off" in "$name" directive});
    refused("$name required;", qq{no origins in "$name" directive});
    refused("$name;", qq{invalid number of arguments in "$name" directive});
    refused("$name off;\n$name null;", qq{"$name" directive is duplicate});
}

# Push without Lua: content handlers of a location.
{
    my $name = 'websocket_publish_from_client';
    taken("$name $_;") for qw(on off);
    refused("$name 1;", qq{invalid value "1" in "$name" directive, it must be "on" or "off"});
    refused("$name on;\n$name on;", qq{"$name" directive is duplicate});

    taken('websocket_subscribe room;',          2);
    taken('websocket_subscribe $uri $host a;',  2);
    taken('websocket_publish $uri;',            2);
    taken('websocket_status;',                  2);
    taken("websocket_status $_;",               2) for qw(json prometheus html);
    taken("websocket_status $_;",               2) for 'health=broker', 'health=broker html', 'prometheus health=broker';
    refused('websocket_status xml;', '"websocket_status" directive must be json, prometheus or html');
    refused("websocket_status $$_[0];", qq{invalid parameter "$$_[1]" in "websocket_status" directive})
      for ['health=all', 'health=all'], ['json html', 'html'], ['health=broker health=broker', 'health=broker'];
    refused("$_ x;", qq{"$_" directive is not allowed here}, 0)
      for qw(websocket_subscribe websocket_publish);
    refused("$_ x;", qq{"$_" directive is not allowed here}, 1)
      for qw(websocket_subscribe websocket_publish);
    refused('websocket_status;', '"websocket_status" directive is not allowed here', $_) for 0, 1;
    refused('websocket_subscribe $nothing;', 'unknown "nothing" variable');
    refused('websocket_publish $nothing;',   'unknown "nothing" variable');
    refused('websocket_subscribe;', 'invalid number of arguments in "websocket_subscribe" directive');
    refused('websocket_publish a b;', 'invalid parameter "b" in "websocket_publish" directive');
    refused('websocket_publish a get delete x;', 'invalid number of arguments in "websocket_publish" directive');
    taken('websocket_publish $arg_topic get delete;', 2);
    taken("websocket_subscribe $_;", 2)
      for 'a since=$arg_since format=auto gap=ignore b', 'a format=raw', 'format=json a', 'a since=', 'a =';
    refused("websocket_subscribe a $_;", qq{invalid parameter "$_" in "websocket_subscribe" directive})
      for 'format=xml', 'format=', 'gap=close', 'format=$arg_a';
    refused('websocket_subscribe since=last;', '"websocket_subscribe" directive needs a topic');
    taken("websocket_subscribe room;\nwebsocket_publish room;", 2);
    taken("if (\$arg_a) {\n$_;\n}", 2), taken("limit_except GET {\n$_;\n}", 2)
      for 'websocket_subscribe a', 'websocket_publish a', 'websocket_status';
    refused("$_ a;\nwebsocket_status;", '"websocket_status" directive cannot share a location: websocket_status answers every request')
      for 'websocket_subscribe', 'websocket_publish';
    refused("websocket_status;\n$_ a;", qq{"$_" directive cannot share a location: websocket_status answers every request})
      for 'websocket_subscribe', 'websocket_publish';
    refused("$_;\n$_;", '"' . (split)[0] . '" directive is duplicate')
      for 'websocket_subscribe a', 'websocket_publish a', 'websocket_status';
}

# The proxy.
{
    my $name = 'websocket_proxy';
    my $url = 'ws://127.0.0.1:9/';
    taken("$name $_;", 2)
      for $url, 'ws://127.0.0.1', 'ws://127.0.0.1/?at=unix:a', 'ws://[::1]:9/a?b=$arg_b', 'ws://unix:/tmp/x', 'ws://unix:/tmp/x:/$uri', 'WS://127.0.0.1:9?x';
    taken("$name $url $_;", 2)
      for 'connect_timeout=1s', 'answer_timeout=500ms idle_timeout=0 ping_interval=30s ping_timeout=0',
      'host=$host headers=a,b protocols=none compression=on', 'headers=none protocols=pass compression=off';
    taken("$name wss://127.0.0.1/ ssl_verify=off ssl_name=\$host;", 2);
    taken("upstream chat { server 127.0.0.1:9; } server { location / { $name ws://chat; } }", 0);
    taken("if (\$arg_a) {\n$name $url;\n}", 2);
    taken("limit_except GET {\n$name $url;\n}", 2);
    refused("$name $_;", qq{invalid URL "$_" in "$name" directive}, 2)
      for qw(x http://a/ ws:/a ws:// ws://a@b/ ws://[x]/ ws://unix:);
    refused("$name $_;", qq{variables before the path in "$name" directive}, 2)
      for qw(ws://$host/ ws://a:$arg_port ws://unix:$uri);
    refused("$name ws://127.0.0.1:99999/;", qq{invalid port in upstream "127.0.0.1:99999"}, 2);
    refused("$name $url $_;", qq{invalid parameter "$_" in "$name" directive}, 2)
      for qw(x timeout=1 connect_timeout=x connect_timeout= connect_timeout=+5s protocols=a compression=1 ssl_verify=1 host=);
    refused("$name $url ssl_verify=off;", qq{ssl parameters without wss:// in "$name" directive}, 2);
    refused("$name wss://127.0.0.1/;", qq{no ssl_trusted_certificate in "$name" directive}, 2);
    refused("$name wss://127.0.0.1/ ssl_verify=off $_=/x;", qq{one of ssl_certificate and ssl_certificate_key in "$name" directive}, 2)
      for qw(ssl_certificate ssl_certificate_key);
    refused("$name;", qq{invalid number of arguments in "$name" directive}, 2);
    refused("$name $url;", qq{"$name" directive is not allowed here}, $_) for 0, 1;
    refused("$name $url;\n$name $url;", qq{"$name" directive is duplicate}, 2);
    refused("$name $url;\n$_;", '"' . (split)[0] . qq{" directive cannot share a location: $name answers every request}, 2)
      for 'websocket_subscribe a', 'websocket_publish a', 'websocket_status';
    refused("$_;\n$name $url;", qq{"$name" directive cannot share a location: $name answers every request}, 2)
      for 'websocket_subscribe a', 'websocket_publish a', 'websocket_status';
    like(nginx_says('', '', "$name wss://127.0.0.1/ ssl_trusted_certificate=/nowhere;"),
        qr{\A1 .*"/nowhere".* failed}, 'a file that is not there');
    like(nginx_says('', '', "$name ws://nowhere.invalid/;"), qr{\A1 host not found in upstream "nowhere.invalid"}, 'a name that is none');
}

# The zone.
{
    my $name = 'websocket_zone';
    taken("$name 8m;", 0);
    taken("$name 1m;", 0);
    refused("$name 8m;", qq{"$name" directive is not allowed here}, $_) for 1, 2;
    refused("$name x;",  qq{"$name" directive invalid value}, 0);
    refused("$name;",    qq{invalid number of arguments in "$name" directive}, 0);
    refused("$name 8m;\n$name 8m;", qq{"$name" directive is duplicate}, 0);
    like(nginx_says("$name 4k;", '', ''), qr/^1 zone of 4096 bytes is too small in "$name" directive: \d+k at least$/, "$name 4k;");
}

# What topics remember.
{
    my $name = 'websocket_topic';
    taken("$name $_;", 0)
      for 'a', 'a* history=1', '* history=100000 ttl=1h bytes=64k', 'a broker=off',
      'a history=5 ttl=10ms', 'a presence', 'a join_leave presence', 't' x 255, ('t' x 254) . '*';
    taken("$name a history=1;\n$name a*;\n$name b;", 0);
    refused("$name a;", qq{"$name" directive is not allowed here}, $_) for 1, 2;
    refused("$name;",   qq{invalid number of arguments in "$name" directive}, 0);
    refused("$name a $_;", qq{invalid parameter "$_" in "$name" directive}, 0)
      for 'history', 'history=', 'history=0', 'history=100001', 'history=x', 'history=+5', 'ttl=0', 'ttl=x', 'bytes=0',
      'bytes=1g', 'broker', 'x', 'History=5', 'presence=1', 'join_leave=on', 'joins';
    refused("$name a history=5 history=6;", qq{duplicate parameter "history=6" in "$name" directive}, 0);
    refused("$name a broker=main;", qq{unknown broker "main" in "$name" directive}, 0);
    refused("$name a presence presence;", qq{duplicate parameter "presence" in "$name" directive}, 0);
    refused("$name a join_leave history=5;", qq{"join_leave" needs "presence" in "$name" directive}, 0);
    refused("$name a ttl=5s;", qq{"ttl" and "bytes" need "history" in "$name" directive}, 0);
    refused("$name a bytes=5k;", qq{"ttl" and "bytes" need "history" in "$name" directive}, 0);
    refused("$name a;\n$name a history=5;", qq{duplicate topic "a" in "$name" directive}, 0);
    refused("$name a*;\n$name a*;", qq{duplicate topic "a*" in "$name" directive}, 0);
    refused("$name $_;", qq{invalid topic "$_" in "$name" directive}, 0) for 't' x 256, ('t' x 255) . '*';
    refused("$name '';", qq{invalid topic "" in "$name" directive}, 0);
    $name = 'websocket_history_zone';
    taken("$name $_;", 0) for '128k', '64m';
    refused("$name x;",  qq{"$name" directive invalid value}, 0);
    refused("$name 4k;", qq{zone of 4096 bytes is too small in "$name" directive: 128k at least}, 0);
    refused("$name 1m;\n$name 1m;", qq{"$name" directive is duplicate}, 0);
    refused("$name 1m;", qq{"$name" directive is not allowed here}, $_) for 1, 2;
    for (qw(websocket_resume_limit websocket_max_subscriptions)) {
        taken("$_ 0;", 0 .. 2), taken("$_ 1000;", 0 .. 2);
        refused("$_ x;", qq{"$_" directive invalid number});
        refused("$_ -1;", qq{"$_" directive invalid number});
        refused("$_ 1;\n$_ 1;", qq{"$_" directive is duplicate});
    }
}

# Limits of one connection.
{
    my $name = 'websocket_rate';
    taken("$name $_;", 0 .. 2) for '0', '10r/s', '30r/m burst=0', '1r/s burst=1000';
    refused("$name $_;", qq{invalid value "$_" in "$name" directive}, 2)
      for 'x', '10', '0r/s', '-1r/s', '1.5r/s', '10r/h', 'r/s', '4294967296r/s';
    refused("$name 5r/s $_;", qq{invalid parameter "$_" in "$name" directive}, 2)
      for 'burst', 'burst=', 'burst=x', 'burst=-1', 'nodelay';
    refused("$name 0 burst=1;", qq{invalid parameter "burst=1" in "$name" directive}, 2);
    refused("$name 1r/s;\n$name 1r/s;", qq{"$name" directive is duplicate}, 2);
    $name = 'websocket_max_lifetime';
    taken("$name $_;", 0 .. 2) for '0', '1h', '500ms over=1m';
    refused("$name $_;", qq{invalid value "$_" in "$name" directive}, 2) for 'x', '-1', '1y';
    refused("$name 1h $_;", qq{invalid parameter "$_" in "$name" directive}, 2) for 'over', 'over=x', 'within=1m';
    refused("$name 0 over=1m;", qq{invalid parameter "over=1m" in "$name" directive}, 2);
    refused("$name 1h;\n$name 1h;", qq{"$name" directive is duplicate}, 2);
}

# Names for `require`.
{
    my $name = 'websocket_lua_modules';
    taken("$name $_;", 0) for 'resty', 'tarantool', 'lua-websockets', 'none', 'lua-websockets resty tarantool';
    refused("$name $_;", qq{invalid value "$_" in "$name" directive}, 0) for qw(lipp RESTY websockets off);
    refused("$name resty none;", qq{invalid value "none" in "$name" directive}, 0);
    refused("$name none resty;", qq{invalid value "none" in "$name" directive}, 0);
    refused("$name resty resty;", qq{duplicate value "resty" in "$name" directive}, 0);
    refused("$name;", qq{invalid number of arguments in "$name" directive}, 0);
    refused("$name resty;\n$name none;", qq{"$name" directive is duplicate}, 0);
    refused("$name resty;", qq{"$name" directive is not allowed here}, $_) for 1, 2;
}

refused('websocket_nonsense on;', 'unknown directive "websocket_nonsense"');

done_testing();
