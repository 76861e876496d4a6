using Orleans.Placement;
using Orleans.Runtime.Placement;

namespace GpuTasks.Nodes;

/// <summary>Places a grain on the silo whose name is the first part of the grain's key.</summary>
[AttributeUsage(AttributeTargets.Class)]
public sealed class PinnedToNodeAttribute() : PlacementAttribute(new PinnedToNode());

/// <summary>Strategy of <see cref="PinnedToNodeAttribute"/>.</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.PinnedToNode")]
public sealed class PinnedToNode : PlacementStrategy;

/// <summary>Finds the live silo of a node's name.</summary>
/// <param name="membership">Who is in the cluster.</param>
public sealed class PinnedToNodeDirector(IClusterMembershipService membership) : IPlacementDirector
{
    /// <inheritdoc />
    /// <exception cref="NodeUnavailableException">No live silo has that name.</exception>
    public Task<SiloAddress> OnAddActivation(PlacementStrategy strategy, PlacementTarget target, IPlacementContext context)
    {
        var node = target.GrainIdentity.Key.ToString()!.Split('/')[0];
        var members = membership.CurrentSnapshot.Members;
        foreach (var silo in context.GetCompatibleSilos(target))
        {
            if (members.TryGetValue(silo, out var member) && member.Name == node)
            {
                return Task.FromResult(silo);
            }
        }

        throw new NodeUnavailableException(node);
    }
}
