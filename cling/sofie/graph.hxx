/// \file
/// Graphs with nodes, edges and global features, for the Sessions of graph networks.
#ifndef SOFIE_GRAPH_HXX
#define SOFIE_GRAPH_HXX

#include "sofie/target.hxx"

namespace sofie {

/// One graph. Features are rows, one behind the other; edge i goes from node senders[i] to node
/// receivers[i].
struct GraphData {
   std::size_t n_nodes = 0;
   std::vector<float> nodes, edges, globals;
   std::vector<std::int32_t> senders, receivers;
};

/// The graph with new features: `session` is that of a model of `sofie_rdf.from_graph_nets` that
/// takes and gives nodes, edges and globals. Throws std::invalid_argument for wrong sizes.
template <class Session>
GraphData infer(Session &session, const GraphData &graph)
{
   const std::size_t n_edges = graph.senders.size();
   GraphData result{graph.n_nodes, {}, {}, {}, graph.senders, graph.receivers};
   session.infer(graph.n_nodes, n_edges, graph.nodes, graph.edges, graph.globals, graph.senders, graph.receivers,
                 result.nodes, result.edges, result.globals);
   return result;
}

} // namespace sofie

#endif
