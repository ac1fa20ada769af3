/// \file
/// TMVA::Experimental::SOFIE: the data of graph networks.
#ifndef SOFIE_RDF_WORDS_GRAPHS_HXX
#define SOFIE_RDF_WORDS_GRAPHS_HXX

#include "TMVA/RTensor.hxx"
#include "sofie/rdf/words/model.hxx"

namespace TMVA {
namespace Experimental {
namespace SOFIE {

/// A graph: features of nodes [nodes, features], of edges [edges, features] and of the whole [features] or
/// [1, features]; and for each edge the node that receives (row 0) and the one that sends (row 1).
struct GNN_Data {
   RTensor<float> node_data;
   RTensor<float> edge_data;
   RTensor<float> global_data;
   RTensor<int> edge_index;
};

/// A graph with memory of its own.
inline GNN_Data Copy(const GNN_Data &data)
{
   return {data.node_data.Copy(), data.edge_data.Copy(), data.global_data.Copy(), data.edge_index.Copy()};
}

/// Two tensors as one, along an axis; their other sizes are equal.
template <class T>
RTensor<T> Concatenate(const RTensor<T> &first, const RTensor<T> &second, int axis = 0)
{
   const auto &one = first.GetShape(), &two = second.GetShape();
   const std::size_t along = static_cast<std::size_t>(axis);
   std::size_t rows = 1, left = 1, right = 1;
   bool fit = axis >= 0 && along < one.size() && one.size() == two.size();
   for (std::size_t i = 0; fit && i < one.size(); ++i) {
      fit = i == along || one[i] == two[i];
      (i < along ? rows : left) *= one[i];
      right *= i < along ? 1 : two[i];
   }
   if (!fit)
      throw std::invalid_argument("Concatenate: " + ConvertShapeToString(one) + " and " + ConvertShapeToString(two) +
                                  " do not fit along axis " + std::to_string(axis));
   auto shape = one;
   shape[along] += two[along];
   RTensor<T> both(shape);
   T *to = both.GetData();
   for (std::size_t row = 0; row < rows; ++row) {
      to = std::copy(first.GetData() + row * left, first.GetData() + (row + 1) * left, to);
      to = std::copy(second.GetData() + row * right, second.GetData() + (row + 1) * right, to);
   }
   return both;
}

/// Two graphs with the same edges as one: along axis 1, with the features of both.
inline GNN_Data Concatenate(const GNN_Data &first, const GNN_Data &second, int axis = 0)
{
   // The features of the whole may have no first axis.
   const int last = static_cast<int>(first.global_data.GetShape().size()) - 1;
   const int whole = axis == 1 ? last : axis;
   return {Concatenate(first.node_data, second.node_data, axis), Concatenate(first.edge_data, second.edge_data, axis),
           Concatenate(first.global_data, second.global_data, whole), first.edge_index.Copy()};
}

/// What a network wants of a graph, and gives: numbers of features.
struct GraphFeatures {
   std::size_t nodes, edges, globals;
};

/// The nodes that the edges of a graph name in this row, as the network wants their numbers; all are checked.
template <class T>
std::vector<T> edge_ends(const GNN_Data &data, std::size_t row)
{
   const std::size_t nodes = data.node_data.GetShape()[0], edges = data.edge_data.GetShape()[0];
   std::vector<T> ends(edges);
   for (std::size_t i = 0; i < edges; ++i) {
      const int node = data.edge_index.GetData()[row * edges + i];
      if (node < 0 || static_cast<std::size_t>(node) >= nodes)
         throw std::invalid_argument("GNN_Data: edge " + std::to_string(i) + " names node " + std::to_string(node) +
                                     " of " + std::to_string(nodes));
      ends[i] = static_cast<T>(node);
   }
   return ends;
}

/// Nothing, for a graph that has as many features as the network wants, and as many edges as it says twice.
inline void require_graph(const GNN_Data &data, GraphFeatures wanted)
{
   const auto &nodes = data.node_data.GetShape(), &edges = data.edge_data.GetShape();
   const auto &ends = data.edge_index.GetShape();
   if (nodes.size() != 2 || nodes[1] != wanted.nodes)
      throw std::invalid_argument("GNN_Data: node_data is " + ConvertShapeToString(nodes) + " and must have " +
                                  std::to_string(wanted.nodes) + " features");
   if (edges.size() != 2 || edges[1] != wanted.edges)
      throw std::invalid_argument("GNN_Data: edge_data is " + ConvertShapeToString(edges) + " and must have " +
                                  std::to_string(wanted.edges) + " features");
   if (data.global_data.GetSize() != wanted.globals)
      throw std::invalid_argument("GNN_Data: global_data is " + ConvertShapeToString(data.global_data.GetShape()) +
                                  " and must have " + std::to_string(wanted.globals) + " features");
   if (ends.size() != 2 || ends[0] != 2 || ends[1] != edges[0])
      throw std::invalid_argument("GNN_Data: edge_index is " + ConvertShapeToString(ends) + " and must be 2 by the " +
                                  std::to_string(edges[0]) + " edges");
}

} // namespace SOFIE
} // namespace Experimental
} // namespace TMVA

#endif
