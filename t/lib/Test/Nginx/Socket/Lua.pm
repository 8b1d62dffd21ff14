package Test::Nginx::Socket::Lua;

# The flavour of Test::Nginx::Socket used by tests of ngx_lua code. It only adds
# TEST_NGINX_INIT_BY_LUA: Lua source run in the init_by_lua phase of every block
# (in front of the block's own init_by_lua, when that is given as a quoted string).

use Test::Nginx::Socket -Base;

if (my $source = $ENV{TEST_NGINX_INIT_BY_LUA}) {
    (my $quoted = $source) =~ s/(["'\\])/\\$1/g;

    $Test::Nginx::Util::FilterHttpConfig = sub ($) {
        my $http = shift;
        return $http if $http =~ /init_by_lua_file/;

        return $http
          if $http =~ s/(\binit_by_lua\s*)(["'])(?=(?:\\.|(?!\2).)*\2\s*;)/$1$2$quoted /s;
        return "$http\ninit_by_lua '$quoted';\n";
    };
}

1;
