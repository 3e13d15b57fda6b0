# Fetch URLs by net/http: fetch.rb in-turn|at-once URL...
require "net/http"

def fetch(url)
  Net::HTTP.get_response(URI(url))
rescue StandardError => error
  warn error
end

how, *urls = ARGV
if how == "in-turn"
  urls.each { |url| fetch(url) }
else
  urls.map { |url| Thread.new { fetch(url) } }.each(&:join)
end
