using GpuTasks.Secrets;
using GpuTasks.Store;
using Microsoft.Extensions.Options;
using Npgsql;
using Orleans.Configuration;
using Orleans.Serialization;
using Orleans.Storage;

namespace GpuTasks.Storage;

/// <summary>Gives a silo its store.</summary>
public static class StoreSiloBuilderExtensions
{
    private const string PlainProvider = "store-plain";

    /// <summary>
    /// Registers grain storage <see cref="StoreNames.Provider"/>, reminders, the indexes and, if asked for, clustering on
    /// the one database. The schema is brought up to date before anything of the silo starts.
    /// </summary>
    /// <param name="builder">Silo.</param>
    /// <param name="options">The database.</param>
    /// <param name="secrets">How stored secrets are encrypted; the defaults if left out.</param>
    /// <exception cref="OptionsValidationException">The options are wrong; the message names every fault.</exception>
    public static ISiloBuilder AddGpuTasksStore(this ISiloBuilder builder, StoreOptions options, SecretOptions? secrets = null)
    {
        if (options.FindFaults() is { Count: > 0 } faults)
        {
            throw new OptionsValidationException(nameof(StoreOptions), typeof(StoreOptions), faults);
        }

        // What a database's driver throws, or carries inside, has no serializer; without this the caller hears that, and not what went wrong.
        builder.Services.Configure<ExceptionSerializationOptions>(o => o.SupportedExceptionTypeFilter = _ => true);
        builder.Services.AddSingleton(_ => new StoreDatabase(options));
        builder.Services.AddSingleton(services => new SecretProtector(secrets ?? new SecretOptions(), services.GetRequiredService<StoreDatabase>()));
        builder.Services.AddSingleton(services => new SystemTextJsonStorageSerializer(services.GetRequiredService<SecretProtector>()));
        builder.Services.AddSingleton<IAuditLog, AuditLog>();
        builder.Services.AddSingleton<IBlobStore, BlobTable>();
        builder.Services.AddSingleton<BlobParts>();
        builder.Services.AddSingleton<ITaskIndex, TaskIndex>();
        builder.Services.AddSingleton<ITaskPurge, TaskPurge>();
        builder.Services.AddSingleton<IDeadLetterIndex, DeadLetterIndex>();
        builder.Services.AddSingleton<ITopicStore, TopicStore>();
        builder.Services.AddSingleton<IFunctionIndex, FunctionIndex>();
        builder.Services.AddSingleton<ILifecycleParticipant<ISiloLifecycle>, StoreLifetime>();
        if (options.GroupCommit)
        {
            builder.Services.AddSingleton(CreateCommitter);
        }

        builder.Services.AddKeyedSingleton(StoreNames.Provider, (services, _) => CreateStorage(services, options.GroupCommit));
        builder.AddAdoNetGrainStorage(PlainProvider, o => o.Configure<StoreDatabase, SystemTextJsonStorageSerializer>((storage, database, serializer) =>
        {
            storage.Invariant = database.Invariant;
            storage.DataSource = database.DataSource;
            storage.GrainStorageSerializer = serializer;
            storage.DeleteStateOnClear = true;
        }));
        builder.UseAdoNetReminderService(o => o.Configure<StoreDatabase>((reminders, database) =>
        {
            reminders.Invariant = database.Invariant;
            reminders.DataSource = database.DataSource;
        }));
        if (options.UseStoreClustering)
        {
            builder.UseAdoNetClustering(o => o.Configure<StoreDatabase>((clustering, database) =>
            {
                clustering.Invariant = database.Invariant;
                clustering.DataSource = database.Members;
            }));
        }

        return builder;
    }

    private static IGrainStorage CreateStorage(IServiceProvider services, bool groupCommit)
    {
        var provider = services.GetRequiredKeyedService<IGrainStorage>(PlainProvider);
        var parts = services.GetRequiredService<BlobParts>();
        return groupCommit
            ? new GroupCommitStorage(provider, parts, services.GetRequiredService<GroupCommitter>(), services.GetRequiredService<SystemTextJsonStorageSerializer>())
            : new BlobStorage(provider, parts);
    }

    private static GroupCommitter CreateCommitter(IServiceProvider services)
    {
        var database = services.GetRequiredService<StoreDatabase>();
        var service = services.GetRequiredService<IOptions<ClusterOptions>>().Value.ServiceId;
        IRowSink sink = database.DataSource is NpgsqlDataSource source
            ? new PostgreSqlRowSink(source, service)
            : new SqliteRowSink((SqliteDataSource)database.DataSource, service);
        return new GroupCommitter(sink, database.Options, services.GetRequiredService<ILogger<GroupCommitter>>());
    }

    /// <summary>
    /// First to start, since the Orleans providers read their texts from the database; last to stop, so that what grains
    /// write while they are deactivated is committed.
    /// </summary>
    private sealed class StoreLifetime(
        StoreDatabase database,
        IOptions<ClusterOptions> cluster,
        ILogger<StoreMigrator> logger,
        GroupCommitter? committer = null) : ILifecycleParticipant<ISiloLifecycle>
    {
        public void Participate(ISiloLifecycle observer) => observer.Subscribe(
            nameof(StoreLifetime),
            ServiceLifecycleStage.First,
            cancellationToken => new StoreMigrator(database, StoreScript.For(database.Provider), logger)
                .MigrateAsync(cluster.Value.ServiceId, cancellationToken),
            _ => Task.Run(() => committer?.Dispose(), CancellationToken.None));
    }
}
