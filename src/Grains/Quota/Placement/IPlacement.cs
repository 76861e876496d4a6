namespace GpuTasks.Quota.Placement;

/// <summary>Chooses where a request goes. It sees what arrived and what is free now, never what will come.</summary>
public interface IPlacement
{
    /// <summary>Chooses among the nodes, or finds none. The same rooms and arrivals give the same answer.</summary>
    /// <param name="rooms">Nodes that are allowed, in an order that does not change.</param>
    /// <param name="shape">What is asked for.</param>
    /// <param name="account">For whom; a card is shared within one account only.</param>
    Spot? Choose(IReadOnlyList<NodeRoom> rooms, in Shape shape, string account);

    /// <summary>A request of this shape arrived, whether or not it was met.</summary>
    void Arrived(in Shape shape);
}
