using GpuTasks.Functions;
using GpuTasks.Nodes;

namespace GpuTasks.Containers;

/// <summary>An image that the agent fetched.</summary>
/// <param name="Id">Its content's id.</param>
/// <param name="Reference">What it was fetched as.</param>
/// <param name="UsedAt">When an instance last needed it.</param>
internal sealed record FetchedImage(string Id, string Reference, DateTimeOffset UsedAt)
{
    /// <summary>Accounts whose own credentials the registry accepted for it; null for an image that needs none.</summary>
    public IReadOnlyList<string>? Accounts { get; init; }
}

/// <summary>What the agent remembers of images.</summary>
internal sealed record ImageNotes
{
    /// <summary>Fetched images. Those that are not named here were put on the node by its operator, for everybody.</summary>
    public IReadOnlyList<FetchedImage> Fetched { get; init; } = [];

    /// <summary>References being fetched with credentials, or whose fetch broke off: what they name by now is nobody's yet.</summary>
    public IReadOnlyList<string> Fetching { get; init; } = [];
}

/// <summary>An image in use: while this is held it is not removed.</summary>
internal sealed class ImageHold(ImageInfo image, Action release) : IDisposable
{
    public ImageInfo Image => image;

    public void Dispose() => release();
}

/// <summary>
/// Images of a node: fetched when they are missing, handed to those who may have them, removed when the disk fills up. That an
/// image lies on the node proves nothing for an account: who did not fetch a private one itself asks the registry first.
/// </summary>
/// <param name="engine">The engine that keeps them.</param>
/// <param name="dataDirectory">Where what is remembered is kept.</param>
/// <param name="pullTimeout">Longest fetch.</param>
/// <param name="time">Clock.</param>
/// <param name="logger">Log.</param>
internal sealed partial class ImageStore(IContainerEngine engine, string dataDirectory, TimeSpan pullTimeout, TimeProvider time, ILogger logger) : IDisposable
{
    private static readonly TimeSpan UseResolution = TimeSpan.FromMinutes(1);

    private readonly string path = Path.Combine(dataDirectory, "images.json");

    // What is found is held before anybody can remove it.
    private readonly SemaphoreSlim turn = new(1, 1);
    private readonly Lock gate = new();
    private readonly Dictionary<string, int> holds = new(StringComparer.Ordinal);
    private ImageNotes notes = DiskFiles.Load<ImageNotes>(Path.Combine(dataDirectory, "images.json")) ?? new ImageNotes();

    /// <summary>What is remembered now.</summary>
    public ImageNotes Notes
    {
        get
        {
            lock (gate)
            {
                return notes;
            }
        }
    }

    /// <summary>Finds or fetches an image for an account.</summary>
    /// <param name="container">Reference and credentials.</param>
    /// <param name="account">Whose function it is.</param>
    /// <param name="pulling">Told how far a fetch has come, at its end null.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <exception cref="EngineException">It cannot be had.</exception>
    public async Task<ImageHold> AcquireAsync(ContainerSpec container, string account, Action<PullProgress?> pulling, CancellationToken cancellationToken)
    {
        var reference = container.Image;
        var found = await HoldAsync(reference, cancellationToken);
        if (found is not null)
        {
            if (await MayHaveAsync(found.Image.Id, account, cancellationToken))
            {
                Used(found.Image.Id);
                return found;
            }

            found.Dispose();
        }

        LogFetching(logger, reference, account);
        pulling(new PullProgress(0, 0, 0, 0));
        try
        {
            return await FetchAsync(container, account, pulling, cancellationToken);
        }
        catch (EngineException e) when (e.Fault == EngineFault.ImageMissing)
        {
            throw new EngineException(EngineFault.ImageMissing, found is null
                ? $"Image '{reference}' is not on the node and could not be pulled: {e.Message}"
                : $"Image '{reference}' is not free for everybody, and its registry does not give it to this function: {e.Message}", e);
        }
        finally
        {
            pulling(null);
        }
    }

    /// <summary>Removes fetched images that nothing uses, those unused longest first, until enough is free.</summary>
    /// <param name="freeMiB">Measures what is free; null if that cannot be known.</param>
    /// <param name="wantedMiB">How much is to be free; 0 removes nothing.</param>
    /// <param name="inUse">References of the instances that there are.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    public async Task TrimAsync(Func<long?> freeMiB, long wantedMiB, IReadOnlySet<string> inUse, CancellationToken cancellationToken)
    {
        foreach (var image in Notes.Fetched.OrderBy(image => image.UsedAt).ToList())
        {
            if (freeMiB() is not { } free || free >= wantedMiB)
            {
                return;
            }

            await turn.WaitAsync(cancellationToken);
            try
            {
                // The engine itself refuses what a container is made of.
                if (inUse.Contains(image.Reference) || IsHeld(image.Id) || !await engine.RemoveImageAsync(image.Reference, cancellationToken))
                {
                    continue;
                }

                LogRemoved(logger, image.Reference, image.UsedAt, free, wantedMiB);
                // Another name may keep it here: then it is still known whose it is.
                if (await engine.FindImageAsync(image.Id, cancellationToken) is null)
                {
                    Change(now => now with { Fetched = [.. now.Fetched.Where(known => known.Id != image.Id)] });
                }
            }
            finally
            {
                turn.Release();
            }
        }
    }

    public void Dispose() => turn.Dispose();

    private async Task<ImageHold> FetchAsync(ContainerSpec container, string account, Action<PullProgress?> pulling, CancellationToken cancellationToken)
    {
        var reference = container.Image;
        var login = container.RegistryUser is { } user ? new RegistryLogin(user, container.RegistryPassword ?? "") : null;
        if (login is not null)
        {
            // Written first: if this process ends meanwhile, what the engine fetched is still nobody's.
            Change(now => now with { Fetching = [.. now.Fetching, reference] });
        }

        try
        {
            await engine.PullImageAsync(reference, login, pulling, pullTimeout, cancellationToken);
        }
        catch (EngineException e) when (e.Fault == EngineFault.ImageMissing && login is not null)
        {
            Change(now => now with { Fetching = Without(now.Fetching, reference) });
            throw;
        }

        var hold = await HoldAsync(reference, cancellationToken)
            ?? throw new EngineException(EngineFault.ImageMissing, $"Image '{reference}' was pulled but is not there.");
        Change(now =>
        {
            var known = now.Fetched.FirstOrDefault(image => image.Id == hold.Image.Id);
            var isFree = login is null || known is { Accounts: null };
            var image = new FetchedImage(hold.Image.Id, reference, time.GetUtcNow()) { Accounts = isFree ? null : [.. (known?.Accounts ?? []).Append(account).Distinct()] };
            return new ImageNotes
            {
                Fetched = [.. now.Fetched.Where(other => other.Id != image.Id), image],
                Fetching = login is null ? now.Fetching : Without(now.Fetching, reference),
            };
        });
        return hold;
    }

    private async Task<bool> MayHaveAsync(string id, string account, CancellationToken cancellationToken)
    {
        var now = Notes;
        foreach (var reference in now.Fetching.Distinct())
        {
            if (now.Fetched.All(image => image.Id != id) && (await engine.FindImageAsync(reference, cancellationToken))?.Id == id)
            {
                return false;
            }
        }

        // Read again: a fetch may have ended while the engine was asked.
        return Notes.Fetched.FirstOrDefault(image => image.Id == id) is not { Accounts: { } accounts } || accounts.Contains(account);
    }

    private async Task<ImageHold?> HoldAsync(string reference, CancellationToken cancellationToken)
    {
        await turn.WaitAsync(cancellationToken);
        try
        {
            if (await engine.FindImageAsync(reference, cancellationToken) is not { } image)
            {
                return null;
            }

            lock (gate)
            {
                holds[image.Id] = holds.GetValueOrDefault(image.Id) + 1;
            }

            return new ImageHold(image, () => Release(image.Id));
        }
        finally
        {
            turn.Release();
        }
    }

    private void Release(string id)
    {
        lock (gate)
        {
            if (--holds[id] == 0)
            {
                holds.Remove(id);
            }
        }
    }

    private bool IsHeld(string id)
    {
        lock (gate)
        {
            return holds.ContainsKey(id);
        }
    }

    private void Used(string id)
    {
        var at = time.GetUtcNow();
        if (Notes.Fetched.FirstOrDefault(image => image.Id == id) is { } image && at - image.UsedAt > UseResolution)
        {
            Change(now => now with { Fetched = [.. now.Fetched.Select(known => known.Id == id ? known with { UsedAt = at } : known)] });
        }
    }

    private void Change(Func<ImageNotes, ImageNotes> change)
    {
        lock (gate)
        {
            var next = change(notes);
            DiskFiles.Save(path, next);
            notes = next;
        }
    }

    /// <summary>One of them, since several fetches of the same may be under way.</summary>
    private static List<string> Without(IReadOnlyList<string> all, string reference)
    {
        var rest = all.ToList();
        rest.Remove(reference);
        return rest;
    }

    [LoggerMessage(LogLevel.Information, "Image {Image} is fetched for account {Account}")]
    private static partial void LogFetching(ILogger logger, string image, string account);

    [LoggerMessage(LogLevel.Information, "Image {Image}, last used {UsedAt}, was removed: {FreeMiB} MiB were free and {WantedMiB} MiB should be")]
    private static partial void LogRemoved(ILogger logger, string image, DateTimeOffset usedAt, long freeMiB, long wantedMiB);
}
