namespace GpuTasks.Nodes;

/// <summary>No live silo carries this node's name. What the node was asked to do is unknown; repeat it with the same id.</summary>
/// <param name="node">Node name.</param>
[GenerateSerializer, Alias("GpuTasks.NodeUnavailableException")]
public sealed class NodeUnavailableException(string node)
    : Exception($"Node '{node}' has no live silo; its runs go on, and calls to it can be repeated once it is back.")
{
    /// <summary>Node name.</summary>
    [Id(0)] public string Node { get; } = node;
}
