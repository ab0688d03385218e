#include "bus/base/config.hpp"

#include "test/support/temp_dir.hpp"

#include <functional>

#include <catch2/catch.hpp>

using namespace mirrorbus::base;
using namespace std::chrono_literals;

namespace {
Config parse(std::string_view text) { return Config::parse(text, "x.toml"); }

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}
}  // namespace

TEST_CASE("durations and sizes are a whole number and a unit", "[config]") {
  CHECK(parse_duration("500ms") == 500ms);
  CHECK(parse_duration("2s") == 2s);
  CHECK(parse_duration("10m") == 10min);
  CHECK(parse_duration("24h") == 24h);
  CHECK(parse_duration("7d") == 168h);
  CHECK(parse_duration("0s") == 0s);
  for (const char* bad :
       {"", "5", "s", "-1s", "1.5s", "1 s", "1S", "1sx", "200000d", "99999999999999999999s"})
    CHECK_FALSE(parse_duration(bad));
  CHECK(parse_size("0") == 0);
  CHECK(parse_size("512") == 512);
  CHECK(parse_size("300MB") == 300'000'000);
  CHECK(parse_size("8MiB") == 8u << 20);
  CHECK(parse_size("1TiB") == std::uint64_t{1} << 40);
  for (const char* bad : {"", "MB", "1mb", "-1", "9000000000000TB", "1 MB"})
    CHECK_FALSE(parse_size(bad));
}

TEST_CASE("a file read in full passes", "[config]") {
  const Config config = parse(R"(
name = "top"
[bus]
serve = "tcp://127.0.0.1:1"
count = 3
on = true
after = "2s"
room = "8MiB"
plain = 77
domains = ["a", "b"]
one = "c"
static = [{ publish = "p1" }, { publish = "p2" }]
[[tree]]
name = "kernel"
[tree.retain]
days = 3
[[tree]]
name = "docs"
)");
  CHECK(config.root().text("name") == "top");
  const ConfigTable bus = config.table("bus");
  CHECK(bus.present());
  CHECK(bus.text("serve") == "tcp://127.0.0.1:1");
  CHECK(bus.integer("count", 0) == 3);
  CHECK(bus.boolean("on", false));
  CHECK(bus.duration("after", 0s) == 2s);
  CHECK(bus.size("room", 0) == 8u << 20);
  CHECK(bus.size("plain", 0) == 77);
  CHECK(bus.texts("domains") == std::vector<std::string>{"a", "b"});
  CHECK(bus.texts("one") == std::vector<std::string>{"c"});
  const auto fixed = bus.tables("static");
  REQUIRE(fixed.size() == 2);
  CHECK(fixed[1].text("publish") == "p2");
  CHECK(fixed[0].text("publish") == "p1");
  const auto trees = config.tables("tree");
  REQUIRE(trees.size() == 2);
  CHECK(trees[0].keys() == std::vector<std::string>{"name", "retain"});
  CHECK(trees[0].text("name") == "kernel");
  CHECK(trees[0].table("retain").integer("days", 0) == 3);
  CHECK(trees[1].text("name") == "docs");
  CHECK_FALSE(trees[1].table("retain").present());
  CHECK_NOTHROW(config.finish());
}

TEST_CASE("what is absent gives the fallback", "[config]") {
  const Config config = parse("");
  const ConfigTable bus = config.table("bus");
  CHECK_FALSE(bus.present());
  CHECK(bus.text("a", "x") == "x");
  CHECK_FALSE(bus.find_text("a"));
  CHECK(bus.integer("b", 7) == 7);
  CHECK(bus.duration("c", 3s) == 3s);
  CHECK(bus.size("d", 9) == 9);
  CHECK(bus.texts("e", {"f"}) == std::vector<std::string>{"f"});
  CHECK(bus.choice("g", {"on", "off"}, "on") == "on");
  CHECK(bus.tables("h").empty());
  CHECK_FALSE(config.table("bus").table("deep").present());
  CHECK_NOTHROW(config.finish());
}

TEST_CASE("errors name file, line, table, key and what is allowed", "[config]") {
  const Config config =
      parse("[bus]\na = 1\nb = \"soon\"\nc = [1]\nd = \"blue\"\n[[tree]]\nn = 2\n");
  const ConfigTable bus = config.table("bus");
  CHECK(error_of([&bus] { bus.text("a"); }) ==
        "x.toml:2: [bus] a: is a number, must be text in quotes");
  CHECK(error_of([&bus] { bus.text("zz"); }) == "x.toml:1: [bus] zz: is required");
  CHECK(error_of([&config] { config.table("none").text("k"); }) == "x.toml: [none] k: is required");
  CHECK(
      error_of([&bus] { bus.duration("b", 0s); }) ==
      "x.toml:3: [bus] b: \"soon\" is not a time, write e.g. \"500ms\", \"2s\", \"10m\", \"24h\", "
      "\"7d\"");
  CHECK(error_of([&bus] { bus.texts("c"); }) ==
        "x.toml:4: [bus] c: holds a number, must be a list of text only");
  CHECK(error_of([&bus] {
          bus.choice("d", {"red", "green"}, "red");
        }) == "x.toml:5: [bus] d: \"blue\" is not one of red, green");
  CHECK(error_of([&bus] { bus.integer("a", 0, 2, 9); }) ==
        "x.toml:2: [bus] a: is 1, must be at least 2");
  CHECK(error_of([&bus] { bus.boolean("a", false); }) ==
        "x.toml:2: [bus] a: is a number, must be true or false");
  CHECK(error_of([&bus] { bus.table("a"); }) ==
        "x.toml:2: [bus] a: is a number, must be a table: [bus.a]");
  CHECK(error_of([&config] { config.tables("bus"); }) ==
        "x.toml:1: bus: is a table, must be a list of tables: [[bus]]");
  CHECK(error_of([&config] { config.tables("tree")[0].fail("n", "clashes"); }) ==
        "x.toml:7: [[tree]] n: clashes");
  CHECK(error_of([] { parse("[bus]\na = \n"); }).starts_with("x.toml:2: not TOML: "));
}

TEST_CASE("what nobody asked for is refused with what is known", "[config]") {
  SECTION("a key") {
    const Config config = parse("[bus]\nprefix = \"a\"\nserv = \"b\"\n");
    config.table("bus").text("prefix");
    config.table("bus").text("serve", "");
    CHECK(error_of([&config] { config.finish(); }) ==
          "x.toml:3: [bus] serv: unknown key, known are: prefix, serve");
  }
  SECTION("a table") {
    const Config config = parse("[bus]\n[buss]\n");
    config.table("bus");
    CHECK(error_of([&config] { config.finish(); }) ==
          "x.toml:2: [buss]: unknown table, known are: bus");
  }
  SECTION("a key of the second of several tables") {
    const Config config = parse("[[tree]]\nname = \"a\"\n[[tree]]\nname = \"b\"\nnmae = \"c\"\n");
    for (const ConfigTable& tree : config.tables("tree")) tree.text("name");
    CHECK(error_of([&config] { config.finish(); }) ==
          "x.toml:5: [[tree]] nmae: unknown key, known are: name");
  }
}

TEST_CASE("files are loaded, and their absence names them", "[config]") {
  const mirrorbus::test::TempDir dir;
  const std::string path = dir.write("a.toml", "[bus]\nprefix = \"org.example\"\n");
  CHECK(Config::load(path).table("bus").text("prefix") == "org.example");
  CHECK_NOTHROW(Config::load(dir.write("empty.toml", "")).finish());
  CHECK_THROWS_AS(Config::load(dir / "none.toml"), std::system_error);
  CHECK_THROWS_AS(Config::load(dir.path()), std::system_error);
  CHECK_THROWS_WITH(Config::load(dir / "none.toml"), Catch::Contains("none.toml"));
}
