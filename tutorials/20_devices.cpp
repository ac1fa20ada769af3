/// An event loop on a device, through alpaka, in two queues: one copies a batch while the other computes.
#include "higgs_alpaka.hxx"
#include <array>
#include <fstream>

constexpr std::size_t most = 4096, features = 7;
// For a GPU, never run there: makeDeviceSelector(DeviceSpec{api::cuda, deviceKind::nvidiaGpu}) and exec::gpuCuda.
const auto executor = alpaka::exec::cpuSerial;
using Device = decltype(alpaka::onHost::makeHostDevice());
using Queue = decltype(std::declval<Device>().makeQueue());
using Adapter = sofie::device::Alpaka<Queue, std::remove_const_t<decltype(executor)>>;
using Session = TMVA_SOFIE_higgs_alpaka::Session<Adapter>;
using Buffer = decltype(alpaka::onHost::alloc<float>(std::declval<Device>(), most));

// A queue, its Session, and memory for a batch on the host and on the device.
struct Lane {
   Queue queue;
   Session session;
   Buffer x, score;
   std::array<float, most * features> host_x{};
   std::array<float, most> host_score{};
   std::size_t events = 0;
   Lane(Device device, const Session::Weights &weights)
      : queue(device.makeQueue()), session(Adapter(queue, executor), weights, most),
        x(alpaka::onHost::alloc<float>(device, most * features)), score(alpaka::onHost::alloc<float>(device, most))
   {
   }
   void start(std::ifstream &in) // Enqueues a batch and returns at once.
   {
      in.read(reinterpret_cast<char *>(host_x.data()), sizeof host_x);
      events = static_cast<std::size_t>(in.gcount()) / (features * sizeof(float));
      if (!events)
         return;
      const auto given = alpaka::makeView(alpaka::api::host, host_x.data(), alpaka::Vec{most * features});
      alpaka::onHost::memcpy(queue, x, given);
      session.infer(queue, x, score, static_cast<std::ptrdiff_t>(events));
      alpaka::onHost::memcpy(queue, alpaka::makeView(alpaka::api::host, host_score.data(), alpaka::Vec{most}), score);
   }
   void finish(std::ofstream &out) // Waits for the batch.
   {
      alpaka::onHost::wait(queue);
      out.write(reinterpret_cast<const char *>(host_score.data()),
                static_cast<std::streamsize>(events * sizeof(float)));
   }
};

int main(int, char **arguments) // the weights, the events, the scores
{
   auto device = alpaka::onHost::makeHostDevice();
   const Session first(Adapter(device.makeQueue(), executor), arguments[1], most);
   Lane lanes[] = {{device, first.weights()}, {device, first.weights()}};
   std::ifstream in(arguments[2], std::ios::binary);
   std::ofstream out(arguments[3], std::ios::binary);
   lanes[0].start(in);
   for (std::size_t batch = 1; lanes[(batch - 1) % 2].events; ++batch) {
      lanes[batch % 2].start(in);
      lanes[(batch - 1) % 2].finish(out);
   }
}
