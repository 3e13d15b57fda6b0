# Fetch URLs by LWP or HTTP::Tiny, one after the other: fetch.pl lwp|tiny URL...
use strict;
use warnings;

my ($library, @urls) = @ARGV;
my $agent;
if ($library eq "lwp") {
    require LWP::UserAgent;
    $agent = LWP::UserAgent->new(timeout => 10);
} else {
    require HTTP::Tiny;
    $agent = HTTP::Tiny->new(timeout => 10, verify_SSL => 1);
}
$agent->get($_) for @urls;
