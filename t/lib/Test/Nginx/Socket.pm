package Test::Nginx::Socket;

# Entry point of the test runner: what `use Test::Nginx::Socket` puts into a .t file.
# It is a Test::Base class (sections, filters, plan, is/like/ok come from there) plus the
# settings of Test::Nginx::Util and run_tests(). Interface and counting of assertions are
# those of OpenResty's Test::Nginx from CPAN, which t/prove.sh prefers when it is installed:
# every .t file must give the same verdict under either. All code behind it is in
# Test::Nginx::Runner and Test::Nginx::Runner::*.

use Test::Base -Base;

use Test::Nginx::Util;
use Test::Nginx::Runner qw(run_tests run_test);
use Test::Nginx::Runner::ResponseChecks qw(add_response_body_check);
use Test::Nginx::Runner::Verdict qw(is_str);

our @EXPORT = qw(
  run_tests run_test plan is_str
  repeat_each no_shuffle no_long_string no_root_location use_hup no_nginx_manager
  workers worker_connections master_on master_off master_process_enabled
  log_level timeout env_to_nginx config_preamble check_accum_error_log
  server_name server_addr server_root html_dir server_port server_port_for_client
  add_block_preprocessor add_response_body_check add_cleanup_handler bail_out
);

1;
