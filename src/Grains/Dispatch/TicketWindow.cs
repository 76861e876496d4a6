namespace GpuTasks.Dispatch;

/// <summary>
/// The head of one function's queue: a bounded, ordered window over the tasks that wait in the store. What does not fit
/// stays there and is paged in by key. No clock, no I/O.
/// </summary>
/// <param name="capacity">Most tickets held.</param>
public sealed class TicketWindow(int capacity)
{
    private readonly SortedSet<Ticket> tickets = new(TicketOrder.Instance);
    private readonly Dictionary<string, Ticket> byTask = [];

    /// <summary>Tickets held.</summary>
    public int Count => tickets.Count;

    /// <summary>True when tickets behind <see cref="Last"/> may wait in the store.</summary>
    public bool HasMore { get; private set; }

    /// <summary>Last ticket held, or null.</summary>
    public Ticket? Last => tickets.Count == 0 ? null : tickets.Max;

    /// <summary>First ticket held, or null.</summary>
    public Ticket? First => tickets.Count == 0 ? null : tickets.Min;

    /// <summary>True when so few are left that the next page should be fetched.</summary>
    public bool WantsRefill => HasMore && tickets.Count < capacity / 4;

    /// <summary>Takes a ticket in, unless its place is behind the window's end while others may wait in between.</summary>
    public void Offer(Ticket ticket)
    {
        if (byTask.ContainsKey(ticket.TaskId))
        {
            return;
        }

        var behind = tickets.Count == 0 || TicketOrder.Instance.Compare(ticket, tickets.Max) > 0;
        if (behind && (HasMore || tickets.Count >= capacity))
        {
            HasMore = true;
            return;
        }

        Add(ticket);
        if (tickets.Count > capacity)
        {
            Withdraw(tickets.Max.TaskId);
            HasMore = true;
        }
    }

    /// <summary>Takes in a page of the store's queue that begins at its head.</summary>
    /// <param name="page">Tickets in order, without those that are being started.</param>
    /// <param name="end">Last ticket that was read, or null if none was.</param>
    /// <param name="full">True when the page was as long as asked for, so that more may follow it.</param>
    public void Refill(IReadOnlyList<Ticket> page, Ticket? end, bool full)
    {
        // A page that reaches beyond the window closes the gap behind it, and its own fullness says whether more follow.
        var reachesEnd = !full || Last is not { } last || (end is { } e && TicketOrder.Instance.Compare(e, last) >= 0);
        if (reachesEnd)
        {
            HasMore = false;
        }

        foreach (var ticket in page)
        {
            Offer(ticket);
        }

        HasMore |= reachesEnd && full;
    }

    /// <summary>Takes the first ticket out.</summary>
    /// <returns>False if there is none.</returns>
    public bool TryTake(out Ticket ticket)
    {
        ticket = tickets.Min;
        return tickets.Count > 0 && Withdraw(ticket.TaskId);
    }

    /// <summary>Takes a task's ticket out.</summary>
    /// <returns>False if it was not there.</returns>
    public bool Withdraw(string taskId) => byTask.Remove(taskId, out var ticket) && tickets.Remove(ticket);

    private void Add(Ticket ticket)
    {
        tickets.Add(ticket);
        byTask.Add(ticket.TaskId, ticket);
    }
}

/// <summary>Queue order: higher priority first, then earlier acceptance, then id.</summary>
public sealed class TicketOrder : IComparer<Ticket>
{
    /// <summary>The one order.</summary>
    public static readonly TicketOrder Instance = new();

    /// <inheritdoc />
    public int Compare(Ticket x, Ticket y) =>
        y.Priority.CompareTo(x.Priority) is var byPriority and not 0 ? byPriority :
        x.EnqueuedAt.CompareTo(y.EnqueuedAt) is var byTime and not 0 ? byTime :
        string.CompareOrdinal(x.TaskId, y.TaskId);
}
