using GpuTasks.Gateway.Http;
using GpuTasks.Security;

namespace GpuTasks.Gateway.Keys;

/// <summary>
/// The accounts that operators made, as last read from the cluster: read again every 2 s, so a key that was disabled or rotated
/// over another gateway goes within that time. Without a first reading nobody knows who is disabled, so nobody gets in.
/// </summary>
internal sealed partial class AccountCache(IGrainFactory grains, TimeProvider clock, ILogger<AccountCache> logger) : BackgroundService
{
    /// <summary>Key of the one grain.</summary>
    public const string GrainKey = "accounts";

    private static readonly TimeSpan Period = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan PeriodBeforeFirst = TimeSpan.FromMilliseconds(200);
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(3);

    private readonly TaskCompletionSource first = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Lock gate = new();
    private volatile View view = new(new AccountDirectory { Version = -1 });
    private bool failing;

    /// <summary>What is known now, once there was a first reading.</summary>
    /// <exception cref="ApiException">The cluster did not answer yet.</exception>
    public async ValueTask<View> ReadAsync(CancellationToken cancellationToken)
    {
        if (!first.Task.IsCompleted)
        {
            try
            {
                await first.Task.WaitAsync(Patience, cancellationToken);
            }
            catch (TimeoutException)
            {
                throw ApiErrors.Unavailable();
            }
        }

        return view;
    }

    /// <summary>Reads at once, so that whoever changed something finds it changed.</summary>
    public async Task RefreshAsync(CancellationToken cancellationToken)
    {
        var next = await grains.GetGrain<IAccountsGrain>(GrainKey).ReadSince(view.Directory.Version, cancellationToken);
        lock (gate)
        {
            if (next is not null && next.Version > view.Directory.Version)
            {
                view = new View(next);
            }
        }

        first.TrySetResult();
    }

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        while (!stoppingToken.IsCancellationRequested)
        {
            try
            {
                await RefreshAsync(stoppingToken).WaitAsync(Patience, stoppingToken);
                failing = false;
            }
            catch (Exception e) when (e is not OperationCanceledException || !stoppingToken.IsCancellationRequested)
            {
                if (!failing && first.Task.IsCompleted)
                {
                    LogNotRead(e);
                    failing = true;
                }
            }

            await Task.Delay(first.Task.IsCompleted ? Period : PeriodBeforeFirst, clock, stoppingToken);
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "Accounts could not be read again; what is known stays in force until they can")]
    private partial void LogNotRead(Exception e);

    /// <summary>One reading, prepared for look-ups; never changes.</summary>
    internal sealed class View(AccountDirectory directory)
    {
        private readonly Dictionary<string, AccountRecord> accounts = directory.Accounts.ToDictionary(account => account.Id, StringComparer.Ordinal);

        private readonly Dictionary<string, (AccountKey Key, AccountRecord Account)> byId = Keys(directory)
            .Where(entry => entry.Key.Kind == AccountKeyKind.Access)
            .ToDictionary(entry => entry.Key.Id, StringComparer.Ordinal);

        // Looked up by hash, so that the time of a look-up says nothing about the key.
        private readonly Dictionary<string, (AccountKey Key, AccountRecord Account)> byHash = Keys(directory)
            .Where(entry => entry.Key.Hash is not null)
            .DistinctBy(entry => entry.Key.Hash)
            .ToDictionary(entry => entry.Key.Hash!, StringComparer.Ordinal);

        public AccountDirectory Directory => directory;

        public AccountRecord? Account(string id) => accounts.GetValueOrDefault(id);

        public (AccountKey Key, AccountRecord Account)? AccessKey(string id) => byId.TryGetValue(id, out var found) ? found : null;

        public (AccountKey Key, AccountRecord Account)? ApiKey(string hash) => byHash.TryGetValue(hash, out var found) ? found : null;

        private static IEnumerable<(AccountKey Key, AccountRecord Account)> Keys(AccountDirectory directory) =>
            directory.Accounts.SelectMany(account => account.Keys.Select(key => (key, account)));
    }
}
