using GpuTasks.Store;
using Microsoft.Extensions.Options;
using Orleans.Configuration;

namespace GpuTasks.Storage;

/// <summary>Gives a silo its store.</summary>
public static class StoreSiloBuilderExtensions
{
    /// <summary>
    /// Registers grain storage <see cref="StoreNames.Provider"/>, reminders, the indexes and, if asked for, clustering on
    /// the one database. The schema is brought up to date before anything of the silo starts.
    /// </summary>
    /// <exception cref="OptionsValidationException">The options are wrong; the message names every fault.</exception>
    public static ISiloBuilder AddGpuTasksStore(this ISiloBuilder builder, StoreOptions options)
    {
        if (options.FindFaults() is { Count: > 0 } faults)
        {
            throw new OptionsValidationException(nameof(StoreOptions), typeof(StoreOptions), faults);
        }

        builder.Services.AddSingleton(_ => new StoreDatabase(options));
        builder.Services.AddSingleton<SystemTextJsonStorageSerializer>();
        builder.Services.AddSingleton<ITaskIndex, TaskIndex>();
        builder.Services.AddSingleton<IFunctionIndex, FunctionIndex>();
        builder.Services.AddSingleton<ILifecycleParticipant<ISiloLifecycle>, MigrateAtStart>();

        builder.AddAdoNetGrainStorage(StoreNames.Provider, o => o.Configure<StoreDatabase, SystemTextJsonStorageSerializer>((storage, database, serializer) =>
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
                clustering.DataSource = database.DataSource;
            }));
        }

        return builder;
    }

    /// <summary>The Orleans providers read their texts from the database when they start, so the migration comes first of all.</summary>
    private sealed class MigrateAtStart(StoreDatabase database, IOptions<ClusterOptions> cluster, ILogger<StoreMigrator> logger)
        : ILifecycleParticipant<ISiloLifecycle>
    {
        public void Participate(ISiloLifecycle observer) => observer.Subscribe(
            nameof(StoreMigrator),
            ServiceLifecycleStage.First,
            cancellationToken => new StoreMigrator(database, StoreScript.For(database.Provider), logger)
                .MigrateAsync(cluster.Value.ServiceId, cancellationToken));
    }
}
