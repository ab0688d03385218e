// Publishes each line of standard input, which is JSON, as an event:  publish CONFIG TOPIC
//   g++ -std=c++20 publish.cpp $(pkg-config --cflags --libs mirrorbus)
#include <mirrorbus.hpp>

#include <iostream>

int main(int argc, char** argv) try {
  if (argc != 3) return 2;
  mirrorbus::Publisher publisher(argv[1]);
  for (std::string line; std::getline(std::cin, line);)
    std::cout << publisher.publish(argv[2], line) << std::endl;
  return 0;
} catch (const std::exception& error) {
  std::cerr << "publish: " << error.what() << '\n';
  return 1;
}
